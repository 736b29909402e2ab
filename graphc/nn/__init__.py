"""Layers, losses, metrics and models: Keras's names over graphc's graphs."""

from graphc.nn import activations as activations
from graphc.nn import losses as losses
from graphc.nn import metrics as metrics
from graphc.nn.layer import Layer as Layer
from graphc.nn.layers import Activation as Activation
from graphc.nn.layers import Dense as Dense
from graphc.nn.layers import Dropout as Dropout
from graphc.nn.layers import Flatten as Flatten
from graphc.nn.model import Sequential as Sequential
