"""`graphc demo`."""


def demo() -> None:
    """Train a classifier of handwritten digits."""
