"""Parts that lie beside each other, joined: what `simplify` knows about them.

    add(pad(a, 0..), pad(b, n..))      =>   concatenate(a, b)
    relu(add(reshape(m), broadcast(b)))  =>   reshape(relu(add(m, broadcast(b))))

The first is what the gradient of a split is: one tensor written in pieces, instead of
as many tensors of mostly zeros, added up. The second lets a product of matrices whose
rows were several axes (the steps and the sequences of a recurrent network) keep its
epilogue.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from graphc.ir.nodes import Node, Tensor, make1
from graphc.ir.types import Shape
from graphc.ops.broadcast import BROADCAST_TO, broadcast_to
from graphc.ops.creation import FULL, Full
from graphc.ops.padding import PAD, pad_with
from graphc.ops.shape import CONCATENATE, RESHAPE, Axis, reshape
from graphc.passes.lowering.group import is_contraction

MOST_PIECES = 64
LONGEST_EPILOGUE = 16  # ops


def joined_pads(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
    """Return a sum of pieces that lie beside each other as one `concatenate`.

    Values stay, but for the sign of zeros: -0.0 + 0 is 0.0, and a piece keeps its -0.0.
    """
    if node.op.name != "add":
        return None
    parts = _terms(inputs)
    found = [_placed(t) for t in parts]
    axes = {f[0] for f in found if f is not None}
    if None in found or len(axes) != 1:
        return None
    (axis,) = axes
    pieces = sorted((f[1], k) for k, f in enumerate(found) if f is not None)
    begin = end = pieces[0][0]
    for start, k in pieces:
        if start != end:
            return None
        end += _size(parts[k].node.inputs[0], axis)
    joined = _joined([parts[k].node.inputs[0] for _, k in pieces], axis)
    offset = [begin if i == axis else 0 for i in range(joined.ndim)]
    return pad_with(joined, offset, node.results[0].shape)


def _terms(inputs: Iterable[Tensor]) -> list[Tensor]:
    """Return the pieces that a sum of sums adds up; none if it adds anything else."""
    terms: list[Tensor] = []
    sums = list(inputs)
    while sums:
        found = [t for t in sums if t.node.op.name != "add"]
        # Most sums are of something else: that is seen before going any deeper.
        many = len(terms) + len(sums) > MOST_PIECES
        if many or any(t.node.op is not PAD for t in found):
            return []
        terms += found
        sums = [i for t in sums if t.node.op.name == "add" for i in t.node.inputs]
    return terms


def _placed(tensor: Tensor) -> tuple[int, int] | None:
    """Return the axis along which a tensor is a piece among zeros, and its start."""
    a = tensor.node.attrs
    if tensor.node.op is not PAD or a.value or set(a.step) != {1}:
        return None
    source = tensor.node.inputs[0].shape
    moved = [
        k
        for k, (start, size, whole) in enumerate(
            zip(a.start, source, a.shape, strict=True)
        )
        if (start, size) != (0, whole)
    ]
    if len(moved) != 1:
        return None
    (axis,) = moved
    start, size = a.start[axis], source[axis]
    # Only sizes that are known: an empty piece could not be read from.
    if not isinstance(start, int) or not isinstance(size, int) or size < 1:
        return None
    return axis, start


def _size(tensor: Tensor, axis: int) -> int:
    size = tensor.shape[axis]
    assert isinstance(size, int)
    return size


def _joined(pieces: Sequence[Tensor], axis: int) -> Tensor:
    flat: list[Tensor] = []
    for t in pieces:
        again = t.node.op is CONCATENATE and t.node.attrs.axis == axis
        flat += t.node.inputs if again else [t]
    return make1(CONCATENATE, flat, Axis(axis))


# --- reshapes after products --------------------------------------------------------


def lowered_reshape(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
    """Return an elementwise op on a reshaped product as a reshape of its result."""
    if node.op.scalar is None or node.op.regions:
        return None
    sources = [t.node.inputs[0] for t in inputs if t.node.op is RESHAPE]
    source = next((s for s in sources if _is_product(s)), None)
    if source is None:
        return None
    shape, result = source.shape, node.results[0]
    regrouped = (_regrouped(t, shape) for t in inputs)
    made = [t for t in regrouped if t is not None]
    if len(made) < len(inputs):
        return None
    flat = make1(node.op, made, node.attrs)
    return reshape(flat, result.shape)


def _is_product(tensor: Tensor) -> bool:
    """Whether a tensor is a contraction, or elementwise work on one alone."""
    node = tensor.node
    for _ in range(LONGEST_EPILOGUE):
        if node.op.scalar is None:
            return is_contraction(node)
        rest = [t for t in node.inputs if not _is_spread(t)]
        if len(rest) != 1:
            return False
        node = rest[0].node
    return False


def _is_spread(tensor: Tensor) -> bool:
    return tensor.node.op in (FULL, BROADCAST_TO)


def _regrouped(tensor: Tensor, shape: Shape) -> Tensor | None:
    """Return a tensor's elements in another shape, if that takes no work."""
    node = tensor.node
    if node.op is RESHAPE and node.inputs[0].shape == shape:
        return node.inputs[0]
    if node.op is FULL:
        return make1(FULL, (), Full(tensor.dtype, shape, node.attrs.value))
    if node.op is not BROADCAST_TO:
        return None
    # What is repeated along all axes but the last ones, which are the same in both.
    (x,) = node.inputs
    ones = next((i for i, size in enumerate(x.shape) if size != 1), x.ndim)
    last = x.shape[ones:]
    if len(last) == tensor.ndim:
        return None
    if not (_ends_with(shape, last) and _ends_with(tensor.shape, last)):
        return None
    return broadcast_to(reshape(x, last), shape)


def _ends_with(shape: Shape, last: Shape) -> bool:
    n = len(last)
    return n <= len(shape) and shape[len(shape) - n :] == last
