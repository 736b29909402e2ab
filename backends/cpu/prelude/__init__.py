"""The prelude: what generated kernels are made of; NumPy, Numba and llvmlite alone.

What they import stands in `names.py`. The package itself imports nothing: a process
that finds its kernels in the cache needs no Numba, which takes 0.3 s to import.
"""
