"""Benchmarks: graphc beside its peers, in turns within one run."""
