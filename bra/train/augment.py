"""What happens to a batch on its way into the model: pixels to numbers, and the augmentation of the usual recipe.

All of it works on the whole batch, on the device that trains. Random crops are cut where images are decoded (`data`).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bra.data import DataSet, normalise

LEVELS = 10  # RandAugment's magnitudes go from 0 to here
OPERATIONS = 15


@dataclass(frozen=True)
class Augment:
    """Which augmentations; the defaults are none.

    least_area: smallest share of an image's area that a random crop keeps; 1 is no random crop.
    flip: probability to mirror left and right.
    rand_augment: magnitude, 0 to 10, of RandAugment (Cubuk et al., 2020); 0 is none.
    mixup, cutmix: alpha of the Beta distribution of MixUp (Zhang et al., 2018) and CutMix (Yun et al., 2019); 0 is
    none; with both, every batch takes one of them at even odds.
    erasing: probability to blank a random rectangle (Zhong et al., 2020).
    smoothing: share of the target that is spread over all classes.
    Raises ValueError for values outside these.
    """

    least_area: float = 1.0
    flip: float = 0.0
    rand_augment: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    erasing: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self):
        highest = {"rand_augment": LEVELS, "mixup": 100, "cutmix": 100}
        for name, value in vars(self).items():
            if not 0 <= value <= highest.get(name, 1):
                raise ValueError(f"augment.{name} must be between 0 and {highest.get(name, 1)}, but is {value}")
        if self.least_area == 0:
            raise ValueError("augment.least_area must be above 0, but is 0")


class Preparation:
    """Turns a batch of a data set into what the model takes: `images, targets = preparation(batch)`.

    Targets are class numbers (b), or shares of the classes (b classes) where something mixes or smooths them.
    """

    def __init__(self, augment: Augment, data: DataSet):
        self.augment, self.data = augment, data
        self.photo = photo_operations(augment)
        self.erase = erasing(augment.erasing)

    def __call__(self, batch) -> tuple[Float[Tensor, "b c h w"], Tensor]:
        """Draws from PyTorch's global generator."""
        settings, images, targets = self.augment, batch.image, batch.label
        if self.photo is not None:
            images = (self.photo(images / 255) * 255).round().clamp(0, 255).byte()
        images = normalise(images, self.data.mean, self.data.std)
        if self.erase is not None:
            images = self.erase(images)
        if settings.smoothing or settings.mixup or settings.cutmix:
            targets = smooth(targets, len(self.data.classes), settings.smoothing)
        if settings.mixup or settings.cutmix:
            images, targets = mix(images, targets, settings.mixup, settings.cutmix)
        return images, targets


def smooth(labels: Int[Tensor, " b"], classes: int, share: float) -> Float[Tensor, "b classes"]:
    """Label smoothing (Szegedy et al., 2016): 1 - share on the label, and share spread evenly over all classes."""
    return F.one_hot(labels, classes) * (1 - share) + share / classes


def mix(
    images: Float[Tensor, "b c h w"], targets: Float[Tensor, "b classes"], mixup: float, cutmix: float
) -> tuple[Float[Tensor, "b c h w"], Float[Tensor, "b classes"]]:
    """Mix every image with the one at the other end of the batch: lambda of its own, 1 - lambda of the other.

    lambda ~ Beta(alpha, alpha), one for the batch. MixUp adds the pixels; CutMix pastes a rectangle of the
    other, of the same proportions as the image, and takes as lambda the share that is left after cutting at the border.
    """
    paste = cutmix > 0 and (mixup == 0 or torch.rand(()).item() < 0.5)
    alpha = cutmix if paste else mixup
    keep = torch.distributions.Beta(alpha, alpha).sample().item()
    if paste:
        h, w = images.shape[-2:]
        (top, bottom), (left, right) = (cut(side, (1 - keep) ** 0.5) for side in (h, w))
        mixed = images.clone()
        mixed[:, :, top:bottom, left:right] = images.flip(0)[:, :, top:bottom, left:right]
        keep = 1 - (bottom - top) * (right - left) / (h * w)
    else:
        mixed = images.lerp(images.flip(0), 1 - keep)
    return mixed, targets.lerp(targets.flip(0), 1 - keep)


def cut(side: int, share: float) -> tuple[int, int]:
    """Begin and end of a stretch of `share` of the side around a random middle, cut off at the borders."""
    middle, half = torch.randint(side, ()).item(), round(side * share) // 2
    return max(0, middle - half), min(side, middle + half)


def photo_operations(augment: Augment) -> nn.Module | None:
    """Kornia's operations on images of 0..1: mirror, then RandAugment."""
    if not augment.flip and not augment.rand_augment:
        return None
    import kornia.augmentation as kornia  # late: half a second that other runs need not wait

    operations = [kornia.RandomHorizontalFlip(p=augment.flip)]
    if augment.rand_augment:
        operations += rand_augment(augment.rand_augment / LEVELS)
    return nn.Sequential(*operations)


def rand_augment(level: float) -> list[nn.Module]:
    """RandAugment, image by image: each of 15 operations has the same chance, on average one befalls an image.

    The paper's recipe (timm's rand-m9-mstd0.5) draws 2 of 15 and applies each with probability 0.5: also one on
    average. Kornia's own RandAugment draws once a batch, and its magnitudes never darken, so the operations are
    composed here. What has a direction has two entries, one for each, of half the chance. Saturation, contrast and
    brightness are ColorJitter's, which blend with grey, the mean and black as Pillow does; Kornia's RandomBrightness
    would add 0.81 at level 0.9.
    """
    import kornia.augmentation as kornia

    chance = 1 / OPERATIONS
    one_way = [
        kornia.RandomAutoContrast(p=chance),
        kornia.RandomEqualize(p=chance),
        kornia.RandomInvert(p=chance),
        kornia.RandomPosterize(bits=(max(1, round(4 - 4 * level)),) * 2, p=chance),
        kornia.RandomSolarize(thresholds=(1 - level,) * 2, additions=(0.0, 0.0), p=chance),
        SolarizeAdd(0.43 * level, chance),
    ]
    two_ways = []
    for sign in (-1, 1):
        p, strength = chance / 2, sign * level
        factor = (1 + 0.9 * strength,) * 2
        slant, shift = (17.0 * strength,) * 2, (0.45 * strength,) * 2  # degrees of a shear of 0.3; share of the side
        two_ways += [
            kornia.ColorJitter(saturation=factor, p=p),
            kornia.ColorJitter(contrast=factor, p=p),
            kornia.ColorJitter(brightness=factor, p=p),
            kornia.RandomSharpness(sharpness=factor, p=p),
            kornia.RandomRotation(degrees=(30.0 * strength,) * 2, p=p),
            kornia.RandomShear(shear=(*slant, 0.0, 0.0), p=p),
            kornia.RandomShear(shear=(0.0, 0.0, *slant), p=p),
            kornia.RandomTranslate(translate_x=shift, p=p),
            kornia.RandomTranslate(translate_y=shift, p=p),
        ]
    return one_way + two_ways


class SolarizeAdd(nn.Module):
    """Add to the pixels of the darker half, in an image with probability p; Kornia's would invert the others."""

    def __init__(self, addition: float, p: float):
        super().__init__()
        self.addition, self.p = addition, p

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Images of 0..1."""
        chosen = torch.rand(len(images), 1, 1, 1, device=images.device) < self.p
        return torch.where(chosen & (images < 0.5), images + self.addition, images)


def erasing(probability: float) -> nn.Module | None:
    """Blank a rectangle of 2 to 33% of the area with the mean colour (timm fills it with noise)."""
    if not probability:
        return None
    import kornia.augmentation as kornia

    return kornia.RandomErasing(p=probability, scale=(0.02, 1 / 3), ratio=(0.3, 3.3), value=0.0)
