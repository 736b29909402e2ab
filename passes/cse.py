"""cse: equal nodes become one.

    %1 = exp(%x)                    %1 = exp(%x)
    %2 = exp(%x)            =>      %3 = add(%1, %1)
    %3 = add(%1, %2)

Equal means: the same op, attributes equal by bits, the same inputs. Preserves every
value bit for bit. Source: value numbering, Cocke and Schwartz, 1970.
"""

from __future__ import annotations

from graphc.ir.graph import Graph, merge_equal
from graphc.passes.registry import graph_pass


@graph_pass("cse")
def cse(graph: Graph) -> Graph:
    """Merge equal nodes."""
    return merge_equal(graph)
