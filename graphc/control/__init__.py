"""Loops and branches: ops that own the regions they run."""
