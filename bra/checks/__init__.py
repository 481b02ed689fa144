"""Checks for the exercises: one function a notebook, which says what is wrong with an answer, not only that it is.

A check never raises for a wrong answer: it returns a `Verdict`, which is true only for a right one. So a notebook
shows what it says, and a grader writes ``verdict = checks.topk(mine)`` and ``assert verdict, verdict``. (A grader needs
a time limit of its own: a check waits for a function that does not end.) What an exercise asks for stands in its
notebook; what may go wrong stands here, as mistakes and what to say about them.
"""

from bra.checks.adjacency import adjacency
from bra.checks.attention import attention
from bra.checks.biformer import biformer
from bra.checks.explorer import explorer
from bra.checks.gather import gather
from bra.checks.judge import Verdict
from bra.checks.layer import layer
from bra.checks.lce import lce
from bra.checks.partition import partition
from bra.checks.patterns import patterns
from bra.checks.topk import topk

__all__ = [
    "Verdict",
    "adjacency",
    "attention",
    "biformer",
    "explorer",
    "gather",
    "layer",
    "lce",
    "partition",
    "patterns",
    "topk",
]
