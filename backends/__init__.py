"""Backends, installed as `graphc.backends`."""

if __name__ != "graphc.backends":
    raise ImportError("import graphc.backends, not backends: one registry for all")
