"""Layers, losses, metrics and models: Keras's names over graphc's graphs."""

from graphc.nn import activations as activations
from graphc.nn import losses as losses
from graphc.nn import metrics as metrics
from graphc.nn.attention import MultiHeadAttention as MultiHeadAttention
from graphc.nn.bidirectional import Bidirectional as Bidirectional
from graphc.nn.cells import Cell as Cell
from graphc.nn.cells import GRUCell as GRUCell
from graphc.nn.cells import LSTMCell as LSTMCell
from graphc.nn.cells import SimpleRNNCell as SimpleRNNCell
from graphc.nn.convolution import Conv1D as Conv1D
from graphc.nn.convolution import Conv1DTranspose as Conv1DTranspose
from graphc.nn.convolution import Conv2D as Conv2D
from graphc.nn.convolution import Conv2DTranspose as Conv2DTranspose
from graphc.nn.convolution import Conv3D as Conv3D
from graphc.nn.convolution import Conv3DTranspose as Conv3DTranspose
from graphc.nn.convolution import Dropout2D as Dropout2D
from graphc.nn.embedding import Embedding as Embedding
from graphc.nn.layer import Layer as Layer
from graphc.nn.layers import Activation as Activation
from graphc.nn.layers import Dense as Dense
from graphc.nn.layers import Dropout as Dropout
from graphc.nn.layers import Flatten as Flatten
from graphc.nn.model import Sequential as Sequential
from graphc.nn.normalisation import BatchNormalization as BatchNormalization
from graphc.nn.normalisation import GroupNormalization as GroupNormalization
from graphc.nn.normalisation import LayerNormalization as LayerNormalization
from graphc.nn.normalisation import RMSNormalization as RMSNormalization
from graphc.nn.pooling import AvgPool1D as AvgPool1D
from graphc.nn.pooling import AvgPool2D as AvgPool2D
from graphc.nn.pooling import AvgPool3D as AvgPool3D
from graphc.nn.pooling import GlobalAveragePooling2D as GlobalAveragePooling2D
from graphc.nn.pooling import GlobalMaxPooling2D as GlobalMaxPooling2D
from graphc.nn.pooling import MaxPool1D as MaxPool1D
from graphc.nn.pooling import MaxPool2D as MaxPool2D
from graphc.nn.pooling import MaxPool3D as MaxPool3D
from graphc.nn.recurrent import GRU as GRU
from graphc.nn.recurrent import LSTM as LSTM
from graphc.nn.recurrent import RNN as RNN
from graphc.nn.recurrent import SimpleRNN as SimpleRNN

# Keras's other names.
AveragePooling2D = AvgPool2D
MaxPooling2D = MaxPool2D
SpatialDropout2D = Dropout2D
