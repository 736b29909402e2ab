"""Differentiation: gradients as graphs."""
