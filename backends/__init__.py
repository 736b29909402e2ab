"""Backends, installed as `graphc.backends`."""
