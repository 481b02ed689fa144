"""Images with objects, in the layout of COCO (Lin et al., 2014): boxes, and masks if asked for."""

import random
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import pad

from bra.data.decoding import WrongLabel, check_whole, find_turn, open_image, turned
from bra.data.dense import DenseFiles, DenseSettings, Objects, in_words, keep_whole, upright_sizes, whole_ones
from bra.data.instances import Photograph, Photographs, read_instances
from bra.data.loading import Loaded
from bra.data.names import printable
from bra.data.outlines import draw_outline, masks_library

LAYOUTS = ("2017", "")  # what stands behind train and val, of the file and of the folder


def require_size(photograph: Photograph, sizes: set[tuple[int, int]]) -> None:
    """Raise WrongLabel unless the annotated size is one that the image may have when it is upright."""
    size = (photograph.width, photograph.height)
    if size not in sizes:
        raise WrongLabel(
            f"{photograph.name} must be {in_words({size})} upright, as annotated, but is {in_words(sizes)}"
        )


def check_photograph(photograph: Photograph) -> None:
    """Look at the file's end and header. Raises DamagedImage; WrongLabel if it is not as large as annotated."""
    check_whole(photograph.content)
    with open_image(photograph.content, photograph.name) as image:
        sizes = upright_sizes(image)
    require_size(photograph, sizes)


def read_upright(photograph: Photograph) -> UInt8[Tensor, "3 h w"]:
    """The pixels, as large as they are. Raises DamagedImage; WrongLabel if that is not as annotated."""
    with open_image(photograph.content, photograph.name) as image:
        turn = find_turn(image)
        pixels = np.array(turned(image.convert("RGB"), turn))
    require_size(photograph, {pixels.shape[1::-1]})
    return torch.from_numpy(pixels).permute(2, 0, 1)


class ObjectFiles(DenseFiles):
    """Images and their objects, read when asked for."""

    def read(self, photograph: Photograph, seed: int | None) -> Objects:
        """A batch of this image alone; with a seed, mirrored at random, and without crowds.

        Raises DamagedImage; WrongLabel for an image of another size, or an outline that is none.
        """
        image = read_upright(photograph)
        height, width = image.shape[1:]
        things = [thing for thing in photograph.things if seed is None or not thing.crowd]
        boxes = torch.tensor([thing.box for thing in things]).view(-1, 4)
        masks = torch.zeros(len(things), 0, 0, dtype=torch.bool)
        if self.settings.masks:
            where = f"an object of {photograph.name}"
            drawn = [draw_outline(thing.outline, width, height, where) for thing in things]
            masks = torch.from_numpy(np.array(drawn, dtype=bool).reshape(-1, height, width))
        if seed is not None and random.Random(seed).random() < 0.5 and self.settings.flip:
            image, masks = image.flip(-1), masks.flip(-1)
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        return Objects(
            image[None],
            torch.tensor([[height, width]]),
            torch.tensor([thing.label for thing in things], dtype=torch.int64)[None],
            boxes[None],
            masks[None],
            torch.tensor([thing.crowd for thing in things], dtype=torch.bool)[None],
            torch.tensor([thing.area for thing in things], dtype=torch.float32)[None],
        )


def filled_up(parts: tuple[Tensor, ...]) -> Tensor:
    """The parts behind each other, each with zeros at the ends of its axes up to the longest."""
    shape = torch.tensor([part.shape for part in parts]).amax(dim=0).tolist()
    ends = ([most - there for most, there in zip(shape, part.shape, strict=True)] for part in parts)
    # `pad` takes the axes from the last; the first, of images, is 1 in each part
    filling = [[number for end in reversed(each) for number in (0, end)] for each in ends]
    return torch.cat([pad(part, amount) for part, amount in zip(parts, filling, strict=True)])


def collate(samples: list) -> tuple[list[Tensor], dict[str, ValueError]]:
    """The parts of a batch of the whole ones, nothing if there is none, and what was wrong with the others, by name."""
    whole, damage = whole_ones(samples)
    return [filled_up(parts) for parts in zip(*whole, strict=True)], damage


class CocoObjects(Loaded):
    """FOLDER/annotations/instances_train2017.json and FOLDER/train2017/*, the same with val; or all without 2017.

    Training leaves out images without objects, as the official code does, and objects that are crowds. `categories`
    are COCO's ids, whose order numbers the labels from 1; `classes` their names.

    Raises what `read_instances` raises; FileNotFoundError without these files; ValueError if the categories of train
    and val differ, if an image is not as large as annotated, if no image has an object, or masks are asked for without
    pycocotools; DamagedImage for one that is cut short or cannot be read, which `settings` may allow.
    """

    asks = "boxes"
    one_by_one = True
    batch, collate = Objects, staticmethod(collate)

    def __init__(self, folder: Path, settings: DenseSettings):
        if settings.masks:
            masks_library()
        places = {split: find_split(folder, split) for split in ("train", "val")}
        found = {split: read_instances(*place, settings.masks) for split, place in places.items()}
        categories = found["train"][0]
        if differing := sorted(set(categories.items()) ^ set(found["val"][0].items())):
            both = " and ".join(printable(path) for path, _ in places.values())
            raise ValueError(f"{both} must hold the same categories, but differ in {differing[0]}")
        photographs = {split: listed for split, (_, listed) in found.items()}
        photographs["train"] = [p for p in photographs["train"] if not all(thing.crowd for thing in p.things)]
        if not photographs["train"]:
            raise ValueError(f"{printable(places['train'][0])} must hold objects, but holds none")
        kept, damaged = keep_whole(photographs, check_photograph, settings)
        splits = [Photographs(place[1], kept[split]) for split, place in places.items()]
        super().__init__(*splits, list(categories.values()), settings)
        self.categories, self.damaged = list(categories), damaged
        self.image_bytes = batch_bytes(kept["train"], settings.masks)
        self.steps = max(500, 12 * self.count // 16)  # twelve epochs of batches of 16, COCO's shortest usual schedule

    def samples(self, split, replace):
        return ObjectFiles(self.sources[split], self.settings, replace)


def find_split(folder: Path, split: str) -> tuple[Path, Path]:
    """The file of annotations and the folder of images. Raises FileNotFoundError."""
    places = [(folder / "annotations" / f"instances_{split}{year}.json", folder / f"{split}{year}") for year in LAYOUTS]
    for file, images in places:
        if file.exists() and images.is_dir():
            return file, images
    needed = "; or ".join(f"{printable(file)} and {printable(images)}" for file, images in places)
    raise FileNotFoundError(f"data need {needed}")


def batch_bytes(photographs: list[Photograph], masks: bool) -> int:
    """What an image takes at most, in a batch with the widest, the highest and the one of most objects."""
    pixels = max(p.width for p in photographs) * max(p.height for p in photographs)
    return pixels * (3 + (max(len(p.things) for p in photographs) if masks else 0))
