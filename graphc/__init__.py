"""graphc: declare a graph, differentiate it, optimise it, look at it, train it."""

from graphc import nn as nn
from graphc import optim as optim
from graphc import train as train
from graphc import viz as viz
from graphc.autodiff.reverse import grad as grad
from graphc.autodiff.reverse import stop_gradient as stop_gradient
from graphc.autodiff.reverse import value_and_grad as value_and_grad
from graphc.compiler import compile as compile
from graphc.errors import GraphcError as GraphcError
from graphc.executable import Executable as Executable
from graphc.ir.graph import Graph as Graph
from graphc.ir.nodes import Tensor as Tensor
from graphc.ir.parser import parse as parse
from graphc.ir.verifier import verify as verify
from graphc.ops.arithmetic import abs as abs
from graphc.ops.arithmetic import add as add
from graphc.ops.arithmetic import div as div
from graphc.ops.arithmetic import equal as equal
from graphc.ops.arithmetic import exp as exp
from graphc.ops.arithmetic import expm1 as expm1
from graphc.ops.arithmetic import greater as greater
from graphc.ops.arithmetic import greater_equal as greater_equal
from graphc.ops.arithmetic import less as less
from graphc.ops.arithmetic import less_equal as less_equal
from graphc.ops.arithmetic import log as log
from graphc.ops.arithmetic import log1p as log1p
from graphc.ops.arithmetic import logical_and as logical_and
from graphc.ops.arithmetic import logical_not as logical_not
from graphc.ops.arithmetic import logical_or as logical_or
from graphc.ops.arithmetic import maximum as maximum
from graphc.ops.arithmetic import minimum as minimum
from graphc.ops.arithmetic import mul as mul
from graphc.ops.arithmetic import neg as neg
from graphc.ops.arithmetic import not_equal as not_equal
from graphc.ops.arithmetic import pow as pow
from graphc.ops.arithmetic import relu as relu
from graphc.ops.arithmetic import rsqrt as rsqrt
from graphc.ops.arithmetic import sigmoid as sigmoid
from graphc.ops.arithmetic import sign as sign
from graphc.ops.arithmetic import softplus as softplus
from graphc.ops.arithmetic import sqrt as sqrt
from graphc.ops.arithmetic import sub as sub
from graphc.ops.arithmetic import tanh as tanh
from graphc.ops.arithmetic import where as where
from graphc.ops.broadcast import broadcast_to as broadcast_to
from graphc.ops.composite import log_softmax as log_softmax
from graphc.ops.composite import logsumexp as logsumexp
from graphc.ops.composite import mean as mean
from graphc.ops.composite import norm as norm
from graphc.ops.composite import softmax as softmax
from graphc.ops.composite import var as var
from graphc.ops.creation import cast as cast
from graphc.ops.creation import constant as constant
from graphc.ops.creation import dim as dim
from graphc.ops.creation import full as full
from graphc.ops.creation import input as input
from graphc.ops.creation import iota as iota
from graphc.ops.creation import ones as ones
from graphc.ops.creation import zeros as zeros
from graphc.ops.elementwise import elementwise as elementwise
from graphc.ops.indexing import one_hot as one_hot
from graphc.ops.indexing import take as take
from graphc.ops.linear import matmul as matmul
from graphc.ops.random import bernoulli as bernoulli
from graphc.ops.random import dropout as dropout
from graphc.ops.random import normal as normal
from graphc.ops.random import uniform as uniform
from graphc.ops.reduction import argmax as argmax
from graphc.ops.reduction import max as max
from graphc.ops.reduction import min as min
from graphc.ops.reduction import sum as sum
from graphc.ops.regions import custom_gradient as custom_gradient
from graphc.ops.shape import concatenate as concatenate
from graphc.ops.shape import reshape as reshape
from graphc.ops.shape import transpose as transpose
from graphc.state import Parameter as Parameter
from graphc.state import parameter as parameter
from graphc.state import state_updates as state_updates
from graphc.state import variable as variable

from graphc.backends.reference import evaluate as evaluate  # isort: skip

# NumPy's names for the operators.
subtract = sub
multiply = mul
divide = div
negative = neg
power = pow
