"""Passes, installed as `graphc.passes`."""
