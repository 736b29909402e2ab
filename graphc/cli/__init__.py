"""The `graphc` command: what it prints is for people, and exit codes are for scripts."""
