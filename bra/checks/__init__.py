"""Checks for the exercises: one function a notebook, which says what is wrong with an answer, not only that it is.

A check never raises for a wrong answer: it returns a `Verdict`, which is true only for a right one. So a notebook
shows what it says, and a test says ``verdict = checks.topk(mine)`` and ``assert verdict, verdict``. One that nobody
looks at prints itself. A check runs the answer here, and waits for one that does not end: ``python -m bra.checks
FILE`` grades what others wrote, in a process of its own (see `bra.course`). What an exercise asks for stands in its
notebook; what may go wrong stands here, as mistakes and what to say about them. Recall questions are checked by the
functions that end in `_recall`: they say which answer is wrong and why, never the right one. `build` tries the file
that a reader writes from step to step.
"""

from bra.checks.adjacency import adjacency, adjacency_recall
from bra.checks.attention import attention, attention_recall
from bra.checks.biformer import biformer, biformer_recall
from bra.checks.build import build
from bra.checks.dense import dense, dense_recall
from bra.checks.explorer import explorer, explorer_recall
from bra.checks.gather import gather, gather_recall
from bra.checks.imagenet100 import imagenet100, imagenet100_recall
from bra.checks.kernels import kernels, kernels_readers, kernels_recall
from bra.checks.layer import layer, layer_recall
from bra.checks.lce import lce, lce_recall
from bra.checks.partition import partition, partition_recall
from bra.checks.patterns import patterns, patterns_recall
from bra.checks.topk import topk, topk_recall
from bra.checks.train import train, train_recall
from bra.checks.verdict import Verdict

__all__ = [
    "Verdict",
    "adjacency",
    "adjacency_recall",
    "attention",
    "attention_recall",
    "biformer",
    "biformer_recall",
    "build",
    "dense",
    "dense_recall",
    "explorer",
    "explorer_recall",
    "gather",
    "gather_recall",
    "imagenet100",
    "imagenet100_recall",
    "kernels",
    "kernels_readers",
    "kernels_recall",
    "layer",
    "layer_recall",
    "lce",
    "lce_recall",
    "partition",
    "partition_recall",
    "patterns",
    "patterns_recall",
    "topk",
    "topk_recall",
    "train",
    "train_recall",
]
