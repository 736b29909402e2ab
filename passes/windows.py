"""What is cut off behind a convolution is not computed: what `simplify` knows of it.

    slice(conv(pad(g, 2..), w), 1..)   =>   conv(pad(g, 1..), w)

The gradient of a padded convolution is one of a gradient that is padded by a window,
whose rim the gradient of the padding cuts off again. Elements stay bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.ir.dims import Size
from graphc.ir.nodes import Node, Tensor, make1
from graphc.ops.convolution import CONV
from graphc.ops.padding import PAD, pad_with
from graphc.ops.shape import SLICE


def narrowed_windows(node: Node, inputs: Sequence[Tensor]) -> Tensor | None:
    """Return a slice of a convolution of padded windows as one of fewer windows."""
    if node.op is not SLICE or set(node.attrs.step) != {1}:
        return None
    conv = inputs[0].node
    if conv.op is not CONV or conv.inputs[0].node.op is not PAD:
        return None
    whole, cut = inputs[0].shape, node.attrs
    if any(cut.start[:2]) or cut.shape[:2] != whole[:2]:
        return None
    pad, kernel = conv.inputs[0].node, conv.inputs[1].shape[2:]
    (source,) = pad.inputs
    start, shape = list(pad.attrs.start), list(pad.attrs.shape)
    for i, (k, stride, dilation) in enumerate(
        zip(kernel, conv.attrs.stride, conv.attrs.dilation, strict=True), 2
    ):
        start[i] = start[i] - cut.start[i] * stride
        shape[i] = (cut.shape[i] - 1) * stride + (k - 1) * dilation + 1
        if cut.shape[i] == 0:
            return None  # a window needs an element at least
        end = start[i] + (source.shape[i] - 1) * pad.attrs.step[i] + 1
        if not (_is_natural(start[i]) and _is_natural(shape[i] - end)):
            return None  # some of what is padded is cut off too
    a = pad.attrs
    narrow = pad_with(source, start, shape, a.step, a.value)
    return make1(CONV, (narrow, conv.inputs[1]), conv.attrs)


def _is_natural(size: Size) -> bool:
    return isinstance(size, int) and size >= 0
