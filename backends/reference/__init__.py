"""The reference backend: NumPy interprets any graph; this is what graphs mean."""

from graphc.backends.reference.interpreter import evaluate as evaluate
from graphc.backends.reference.interpreter import run_graph as run_graph
