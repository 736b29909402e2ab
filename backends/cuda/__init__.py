"""The CUDA backend: Numba CUDA kernels."""
