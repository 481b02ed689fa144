"""The recall boards as a data set: made as they are needed."""

import math
from dataclasses import dataclass, field
from typing import ClassVar

from bra.data.base import WHOLE, DataSet, derive_seed
from bra.recall import SHAPES, Boards, Recall

DRAWN_AT_ONCE = 256  # held-out boards: drawn in parts, so that memory stays small


@dataclass(frozen=True)
class RecallBoards(DataSet):
    """Fresh boards for every step; `held_out_count` others, the same for every run, are held out."""

    task: Recall
    held_out_count: int = 4096
    damaged: list[str] = field(default_factory=list, init=False)  # stays empty
    count: ClassVar = math.inf
    classes: ClassVar = list(SHAPES)
    channels: ClassVar = 3
    steps: ClassVar = 500

    def training(self, size, seed, start, shard=WHOLE):
        mine = shard.part(size)
        while True:  # every shard draws the whole batch: what a board holds depends on how many are drawn with it
            boards = self.task.sample(size, derive_seed("recall", seed, start))
            yield Boards(*(value[mine] for value in boards))
            start += 1

    def held_out(self, size, shard=WHOLE):
        for first in range(0, self.held_out_count, DRAWN_AT_ONCE):
            count = min(DRAWN_AT_ONCE, self.held_out_count - first)
            part = self.task.sample(count, derive_seed("recall held out", first))
            mine = slice((shard.rank - first) % shard.of, None, shard.of)
            for batch in zip(*(value[mine].split(size) for value in part), strict=True):
                if len(batch[0]):  # the last part may be too short for every shard
                    yield Boards(*batch)
