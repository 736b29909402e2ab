"""Optimisers: from a loss to the updates of its parameters."""

from graphc.optim.adam import Adam as Adam
from graphc.optim.optimizer import Optimizer as Optimizer
from graphc.optim.resolve import get as get
from graphc.optim.sgd import SGD as SGD
