"""The CUDA backend: Numba CUDA kernels in their simplest form."""
