"""Equations by family; `simplify` applies all of them."""

from graphc.passes.rules.arithmetic import RULES as ARITHMETIC
from graphc.passes.rules.movement import RULES as MOVEMENT

SIMPLIFY = (*ARITHMETIC, *MOVEMENT)
