"""`python -m graphc.cli`: the command, where the script is not on the path."""

from graphc.cli.main import app

if __name__ == "__main__":
    app()
