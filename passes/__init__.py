"""Passes, installed as `graphc.passes`: Graph -> Graph -> Program -> Program."""

if __name__ != "graphc.passes":
    raise ImportError("import graphc.passes, not passes: there is one table of passes")

from graphc.ir.rewrite import Rule as Rule
from graphc.ir.rewrite import rewrite as rewrite
from graphc.ir.rewrite import rule as rule
from graphc.passes import (
    coalesce,
    constant_fold,
    cse,
    dce,
    decompose,
    frame,
    fuse,
    hoist,
    keep,
    lower,
    merge_scans,
    order,
    pair_rows,
    pick,
    place_barriers,
    plan_memory,
    recompute,
    schedule,
    simplify,
    sink,
    split_sums,
    stabilize,
    unroll_jam,
    widen,
)
from graphc.passes.pipeline import DEFAULT as DEFAULT
from graphc.passes.pipeline import Stage as Stage
from graphc.passes.pipeline import complete as complete
from graphc.passes.pipeline import parse_pipeline as parse_pipeline
from graphc.passes.pipeline import run_pipeline as run_pipeline
from graphc.passes.registry import PASSES as PASSES
from graphc.passes.registry import graph_pass as graph_pass
from graphc.passes.registry import program_pass as program_pass

__all__ = [
    "coalesce",
    "constant_fold",
    "cse",
    "dce",
    "decompose",
    "frame",
    "fuse",
    "hoist",
    "keep",
    "lower",
    "merge_scans",
    "order",
    "pair_rows",
    "pick",
    "place_barriers",
    "plan_memory",
    "recompute",
    "schedule",
    "simplify",
    "sink",
    "split_sums",
    "stabilize",
    "unroll_jam",
    "widen",
]
