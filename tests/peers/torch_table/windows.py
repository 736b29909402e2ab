"""Padding, convolution, pooling and resizing."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F

import graphc as gc
from torch_table.case import Pair, Spec, X

# Spatial sizes are the symbolic ones here: N rows and K columns of an image.
BIG = (5, 7, 13, 17, 31)
LINE = Spec("x", (2, 3, "N"))
IMAGE = Spec("x", (2, 4, "N", 9))
BATCH = Spec("x", ("M", 4, "N", 7))
SPACE = Spec("x", (1, 2, "N", 6, 5))
CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def _conv(case: str, x: Spec, w: tuple[int, ...], **options: Any) -> Pair:
    ndim = len(w) - 2
    ours: Any = getattr(gc, f"conv{ndim}d")
    theirs: Any = CONVOLUTIONS[ndim]
    return Pair(
        f"conv{ndim}d", case, lambda x, w: ours(x, w, **options),
        lambda x, w: theirs(x, w, **options), (x, Spec("w", w)), BIG,
    )  # fmt: skip


def _back(case: str, x: Spec, w: tuple[int, ...], **options: Any) -> Pair:
    ndim = len(w) - 2
    ours: Any = getattr(gc, f"conv_transpose{ndim}d")
    theirs: Any = TRANSPOSED[ndim]
    return Pair(
        f"conv_transpose{ndim}d", case, lambda x, w: ours(x, w, **options),
        lambda x, w: theirs(x, w, **options), (x, Spec("w", w)), BIG,
    )  # fmt: skip


CONV = (
    _conv("plain", LINE, (4, 3, 3)),
    _conv("stride", LINE, (4, 3, 4), stride=3, padding=2),
    _conv("same", LINE, (2, 3, 4), padding="same", dilation=2),
    _conv("plain", BATCH, (5, 4, 3, 3)),
    _conv("stride", IMAGE, (3, 4, 3, 2), stride=(2, 3), padding=(1, 0)),
    _conv("dilation", IMAGE, (3, 4, 2, 3), dilation=(3, 2)),
    _conv("groups", IMAGE, (6, 2, 3, 3), groups=2, padding=1),
    _conv("depthwise", BATCH, (8, 1, 5, 3), groups=4, stride=2),
    _conv("points", IMAGE, (17, 4, 1, 1)),
    _conv("same", IMAGE, (2, 4, 3, 5), padding="same"),
    _conv("plain", SPACE, (3, 2, 3, 2, 2)),
    _conv("stride", SPACE, (2, 1, 2, 3, 2), stride=(2, 1, 2), padding=1, groups=2),
    _back("plain", LINE, (3, 4, 3)),
    _back("stride", LINE, (3, 2, 4), stride=3, padding=1, output_padding=2),
    _back("plain", BATCH, (4, 3, 3, 3)),
    _back("stride", IMAGE, (4, 2, 3, 2), stride=(2, 3), padding=(1, 0)),
    _back("groups", IMAGE, (4, 3, 2, 3), groups=2, dilation=2, padding=1),
    _back("plain", SPACE, (2, 3, 2, 2, 3)),
    _back("stride", SPACE, (2, 1, 2, 2, 2), stride=2, groups=2),
)


def _pool(case: str, ndim: int, x: Spec, *arguments: Any, **options: Any) -> list[Pair]:
    """Pool by maximum and by mean, with the same arguments."""
    found = []
    for name in ("max", "avg"):
        ours: Any = getattr(gc, f"{name}_pool{ndim}d")
        theirs: Any = getattr(F, f"{name}_pool{ndim}d")
        found.append(Pair(
            f"{name}_pool{ndim}d", case,
            lambda x, f=ours: f(x, *arguments, **options),
            lambda x, f=theirs: f(x, *arguments, **options), (x,), BIG,
        ))  # fmt: skip
    return found


def _unpooled(ndim: int, x: Spec) -> Pair:
    pool: Any = getattr(gc, f"max_pool{ndim}d")
    back: Any = getattr(gc, f"max_unpool{ndim}d")
    their_pool: Any = getattr(F, f"max_pool{ndim}d")
    their_back: Any = getattr(F, f"max_unpool{ndim}d")

    def ours(x: Any) -> Any:
        y, at = pool(x, 2, return_indices=True)
        return back(y, at, 2, output_size=x.shape[2:]), at

    def theirs(x: Any) -> Any:
        y, at = their_pool(x, 2, return_indices=True)
        return their_back(y, at, 2, output_size=list(x.shape[2:])), at

    return Pair(f"max_unpool{ndim}d", "of_max_pool", ours, theirs, (x,), BIG)


POOLS = (
    *_pool("plain", 1, LINE, 3),
    *_pool("overlap", 1, LINE, 3, 2, 1),
    *_pool("plain", 2, BATCH, 2),
    *_pool("overlap", 2, IMAGE, 3, 2, 1),
    *_pool("ceil", 2, IMAGE, (3, 2), 2, ceil_mode=True),
    *_pool("plain", 3, SPACE, 2),
    *_pool("overlap", 3, SPACE, (3, 2, 2), (2, 1, 2), 1),
    Pair("max_pool2d", "dilation", lambda x: gc.max_pool2d(x, 2, 1, 0, 3),
         lambda x: F.max_pool2d(x, 2, 1, 0, 3), (IMAGE,), BIG),
    Pair("max_pool2d", "indices",
         lambda x: gc.max_pool2d(x, 3, 2, 1, return_indices=True),
         lambda x: F.max_pool2d(x, 3, 2, 1, return_indices=True), (IMAGE,), BIG),
    Pair("avg_pool2d", "own_count",
         lambda x: gc.avg_pool2d(x, 3, 2, 1, count_include_pad=False),
         lambda x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False), (IMAGE,), BIG),
    _unpooled(1, LINE),
    _unpooled(2, IMAGE),
    _unpooled(3, SPACE),
    Pair("global_max_pool", "image", gc.global_max_pool,
         lambda x: F.adaptive_max_pool2d(x, 1)[..., 0, 0], (BATCH,), BIG),
    Pair("global_average_pool", "image",
         lambda x: gc.global_average_pool(x, keepdims=True),
         lambda x: F.adaptive_avg_pool2d(x, 1),
         (Spec("x", ("M", 4, "N", 7), "float32", -1, 3),), BIG),
)  # fmt: skip


def _resized(case: str, x: Spec, size: Any, method: str, corners: Any = None) -> Pair:
    theirs = {"nearest": "nearest", 1: "linear", 2: "bilinear", 3: "trilinear"}
    mode = theirs["nearest" if method == "nearest" else len(x.shape) - 2]
    return Pair(
        "resize", case, lambda x: gc.resize(x, size, method, bool(corners)),
        lambda x: F.interpolate(x, size, mode=mode, align_corners=corners), (x,), BIG,
    )  # fmt: skip


# Sizes whose ratio is no fraction of small numbers round their places in PyTorch.
RESIZED = (
    _resized("nearest", IMAGE, (8, 18), "nearest"),
    _resized("bilinear", IMAGE, (8, 12), "bilinear", False),
    _resized("corners", IMAGE, (16, 3), "bilinear", True),
    _resized("line", LINE, 4, "linear", False),
    _resized("space", SPACE, (4, 3, 10), "trilinear", False),
)


def _padded(mode: str, theirs: str) -> Pair:
    x = Spec("x", (2, 3, "N", 7))
    return Pair(
        "pad", mode, lambda x: gc.pad(x, ((0, 0), (0, 0), (2, 1), (3, 4)), mode),
        lambda x: F.pad(x, (3, 4, 2, 1), theirs), (x,), BIG,
    )  # fmt: skip


PADDED = (
    Pair("pad", "number", lambda x: gc.pad(x, (1, 2), constant_values=1.5),
         lambda x: F.pad(x, (1, 2, 1, 2), value=1.5), (X,)),
    _padded("constant", "constant"),
    _padded("edge", "replicate"),
    _padded("reflect", "reflect"),
    _padded("wrap", "circular"),
)  # fmt: skip

PAIRS = (*CONV, *POOLS, *RESIZED, *PADDED)
PEERLESS: dict[str, str] = {}
