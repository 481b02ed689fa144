"""Data sets of images that bear one label each, decoded while training goes on."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from jaxtyping import UInt8
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from bra.data.base import Batch
from bra.data.decoding import Box, Key, Source, centre_box, cut, open_image, random_box, upright_size
from bra.data.loading import Loaded, first_whole


@dataclass(frozen=True)
class ImageSettings:
    """How images are decoded and cut. Raises ValueError for values out of range."""

    size: int = 224
    """Side of the images, in pixels."""
    least_area: float = 1.0
    """Training: the smallest share of its area that a random crop keeps; 1: no random crop, the centre crop."""
    centre: float = 1.0
    """Share of the shorter side that the centre crop keeps; 0.875 is usual with ImageNet."""
    corrupt: Literal["fatal", "skip"] = "fatal"
    """Damaged images: stop at the first, or go on without them and list them."""
    workers: int = 2
    """Processes that decode; 0: the main process does."""

    def __post_init__(self):
        for name, lowest in {"size": 1, "workers": 0}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}, but is {getattr(self, name)}")
        for name in ("least_area", "centre"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, but is {getattr(self, name)}")
        if self.corrupt not in ("fatal", "skip"):
            raise ValueError(f"corrupt must be fatal or skip, but is {self.corrupt!r}")

    def choose(self, width: int, height: int, seed: int | None) -> Box:
        """What to cut of an image: at random in training, its middle without a seed."""
        if seed is None or self.least_area == 1:
            return centre_box(width, height, self.centre)
        return random_box(width, height, self.least_area, seed)


class Sample(NamedTuple):
    """A decoded image and its label, and what was wrong with those that were tried before it, by name."""

    pixels: UInt8[Tensor, "3 h w"] | None  # None: all that were tried are damaged
    label: int
    damage: dict[str, ValueError]


class ImageFiles(Dataset):
    """Images, decoded when asked for: a `Sample` for each `Key`.

    `choose` makes the box to cut of width, height and the key's seed. An image is replaced by the next whole one of
    the list, if `replace` is set and it is damaged and not held out.
    """

    def __init__(self, sources: Sequence[Source], size: int, choose: Callable[..., Box], replace: bool):
        self.sources, self.size, self.choose, self.replace = sources, size, choose, replace

    def __getitem__(self, key: Key) -> Sample:
        found, damage = first_whole(self.read, self.sources, key, self.replace)
        return Sample(*(found or (None, 0)), damage)

    def read(self, source: Source, seed: int | None) -> tuple[UInt8[Tensor, "3 h w"], int]:
        """Pixels and label. Raises DamagedImage."""
        with open_image(source.content, source.name) as image:
            return cut(image, self.choose(*upright_size(image), seed), self.size), source.label


def collate(samples: list[Sample]) -> tuple[list, dict[str, ValueError]]:
    """[pixels, labels] of the whole images, nothing if there is none, and what was wrong with the others, by name."""
    whole = [(sample.pixels, sample.label) for sample in samples if sample.pixels is not None]
    damage = {name: error for sample in samples for name, error in sample.damage.items()}
    return default_collate(whole) if whole else [], damage


class Images(Loaded):
    """Images that are decoded by worker processes; see `Loaded` for what is raised, and when."""

    batch, collate = Batch, staticmethod(collate)

    def __init__(
        self, train: Sequence[Source], held_out: Sequence[Source], classes: list[str], settings: ImageSettings
    ):
        super().__init__(train, held_out, classes, settings)
        self.image_bytes = 3 * settings.size**2
        self.steps = 100 * max(1, self.count // 128)

    def samples(self, split, replace):
        return ImageFiles(self.sources[split], self.settings.size, self.settings.choose, replace)
