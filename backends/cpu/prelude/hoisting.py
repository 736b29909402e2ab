"""Move what does not change in a loop in front of it.

LLVM's own pass for this comes only with all others of its pipeline, which look at each
instruction a dozen times; kernels need few of them (`native.optimize`). Here it is one
walk over the instructions of a loop as soon as it is written. Loops inside have been
walked already, and what they moved moves on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from llvmlite import ir

# What depends on its operands alone and cannot fail, by LLVM's names.
_PURE = frozenset(
    (
        *("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "icmp"),
        *("fadd", "fsub", "fmul", "fdiv", "fneg", "fcmp", "select", "getelementptr"),
        *("bitcast", "inttoptr", "ptrtoint", "trunc", "zext", "sext", "fptrunc"),
        *("fpext", "sitofp", "uitofp", "fptosi", "fptoui", "insertelement"),
        *("extractelement", "shufflevector", "insertvalue", "extractvalue"),
    )
)
_DIVISIONS = frozenset(("udiv", "sdiv", "urem", "srem"))


def hoist(
    blocks: Sequence[ir.Block], before: ir.Block, variables: Collection[ir.Value]
) -> None:
    """Move what a loop of some blocks leaves as it is to the end of the block before.

    variables: places of memory that nothing else knows; one that the loop does not
    write holds the same in every turn.
    """
    inside = {id(i) for block in blocks for i in block.instructions}
    written = {
        id(i.operands[1])
        for block in blocks
        for i in block.instructions
        if isinstance(i, ir.StoreInstr)
    }
    kept = {id(v) for v in variables} - written
    moved: list[Any] = []
    for block in blocks:
        rest = []
        for i in block.instructions:
            stays = any(id(operand) in inside for operand in i.operands)
            if stays or not _is_pure(i, kept):
                rest.append(i)
            else:
                inside.remove(id(i))
                i.parent = before
                moved.append(i)
        block.instructions[:] = rest
    end = len(before.instructions) - 1  # in front of the jump to the loop
    before.instructions[end:end] = moved


def _is_pure(i: Any, kept: Collection[int]) -> bool:
    """Whether an instruction gives the same wherever it stands, and may stand there."""
    if i.opname in _PURE:
        return True
    if i.opname == "load":
        return id(i.operands[0]) in kept
    if i.opname in _DIVISIONS:
        by = i.operands[1]
        return isinstance(by, ir.Constant) and by.constant not in (0, -1)
    if i.opname == "call":
        # Of LLVM's intrinsics those touch memory that return nothing or are masked.
        name = str(getattr(i.callee, "name", ""))
        computes = name.startswith("llvm.") and not isinstance(i.type, ir.VoidType)
        return computes and not name.startswith("llvm.masked.")
    return False
