"""Equations by family."""
