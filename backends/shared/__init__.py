"""What the CPU and the CUDA backend both need, once."""
