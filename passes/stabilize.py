"""stabilize: formulas that overflow or cancel become ops that do not.

    %1 = exp(%x)
    %2 = sum(%1)            =>      %3 = logsumexp(%x)
    %3 = log(%2)

The equations are data of the ops (`forms=`, `stable`). Values that the plain
formula loses to overflow or cancellation become right: a non-finite result may
become finite here, nowhere else. Source: Theano's local_log_softmax and kin
(Bergstra et al., 2010); the list is our own.
"""

from __future__ import annotations

from graphc.ir.graph import Graph, merge_equal
from graphc.ir.rewrite import rewrite, stable_rules
from graphc.passes.registry import graph_pass


@graph_pass("stabilize")
def stabilize(graph: Graph) -> Graph:
    """Rewrite unstable formulas by the equations that ops carry."""
    return rewrite(merge_equal(graph), stable_rules())
