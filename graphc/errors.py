"""Every error a user can meet: what, which values, the user's line, what to do next."""

from __future__ import annotations

from collections.abc import Iterable


class GraphcError(Exception):
    """The base of all errors that graphc raises.

    The message is laid out once, here::

        ShapeError: matmul: inner dimensions differ: x[1]=784, w1[0]=128
          x : f32[N,784]   declared at model.py:8
          w1: f32[128,10]  declared at model.py:11
          --> model.py:14 | h = x @ w1
          help: declare w1 as (784, ...), or use w1.T
    """

    def __init__(
        self,
        message: str,
        *,
        details: Iterable[str] = (),
        where: str = "",
        help: str = "",
    ) -> None:
        self.message = message
        self.details = tuple(details)
        self.where = where
        self.help = help
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.message, *(f"  {line}" for line in self.details)]
        if self.where:
            lines.append(f"  --> {self.where}")
        if self.help:
            lines.append(f"  help: {self.help}")
        return "\n".join(lines)


class ShapeError(GraphcError):
    """Shapes do not fit each other, or an equality of dimensions cannot be proved."""


class DTypeError(GraphcError):
    """A dtype is unknown, or an operation is not defined for it."""


class ArgumentError(GraphcError, ValueError):
    """An argument of a declaration is out of its range or of the wrong kind."""


class GradientError(GraphcError):
    """A gradient does not exist or does not reach its target."""


class BatchError(GraphcError):
    """An op has no batching rule, or what `vmap` was given has no such axis."""


class UpdateError(GraphcError):
    """An update does not fit its state, or two updates write one state."""


class DuplicateNameError(GraphcError):
    """Two different things bear one name within one compiled function."""


class InputError(GraphcError, ValueError):
    """A compiled step was called with arrays that do not fit its inputs."""


class GuardError(InputError):
    """The sizes of a call break an inequality that the graph requires."""


class CheckError(GraphcError):
    """A value breaks what an op requires, in a step or evaluation with check=True.

    The states are as they were.
    """


class ParseError(GraphcError, ValueError):
    """A text is not a graph, a program or a pipeline; says the line and column."""


class VerifyError(GraphcError):
    """A graph or a program breaks a rule of its level."""


class PassError(GraphcError):
    """A pass is unknown, has no such option, or broke the graph it was given."""


class LoweringError(GraphcError):
    """An operation has no lowering, or a group of them cannot become one nest."""


class CompileError(GraphcError):
    """A kernel did not compile; names the kernel, its file and its nodes."""


class StateError(GraphcError):
    """A state has no value, or was given one that does not fit it."""


class ModelFileError(GraphcError):
    """A file with weights is damaged or belongs to another model."""


class DrawError(GraphcError):
    """A drawing cannot be made in the format that was asked for."""
