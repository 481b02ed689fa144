"""Step 11. Train BiFormer: `python -m bra.train --help`."""

from bra.train.config import TrainConfig
from bra.train.loop import Training, complete, fit, prepare, train

__all__ = ["TrainConfig", "Training", "complete", "fit", "prepare", "train"]
