"""The CPU backend: Numba kernels with explicit SIMD."""
