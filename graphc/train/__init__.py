"""Training: what stands behind `model.fit` and its kin."""

from graphc.nn.model import use_trainer
from graphc.train.history import History as History
from graphc.train.trainer import ModelTrainer as ModelTrainer

use_trainer(ModelTrainer)
