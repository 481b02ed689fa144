"""Makes portraits: of held-out images, of photographs, and of what a model does with them.

Models are looked at on the CPU in float64, so that the same weights give the same file on every machine.
"""

import copy
import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from bra import official
from bra.biformer import MODELS, BiFormer
from bra.data import DataSet, Images, normalise, open_image
from bra.data.decoding import centre_box, cut, cut_to, upright_size
from bra.data.dense import scaled_size
from bra.dense import Backbone
from bra.explorer.portrait import Portrait, Snapshot
from bra.explorer.telling import best, truth_of
from bra.look.calls import evaluating
from bra.look.views import look

SURE = 0.5  # the score from which on a box is shown
TITLE = "What has this network learnt to look at?"
LARGEST = 2048  # pixels on a side: of more, one look would take more memory than most machines have


def of_held_out(
    model: nn.Module,
    data: DataSet,
    name: str,
    held_out: dict | None = None,
    history: Sequence[Snapshot] = (),
    step: int = 0,
    number: int = 0,
) -> Portrait:
    """A held-out image and what the model says of it; for recall with the right answer.

    held_out: what was measured on all of them, for the hit rates. Raises ValueError for a number that is not held out.
    """
    if not 0 <= number < data.held_out_count:
        raise ValueError(f"number must be between 0 and {data.held_out_count - 1}, but is {number}")
    batch = next(itertools.islice(data.held_out(1), number, None))
    known: dict = {"history": history, "step": step, "asker": data.asker}
    rates = (held_out or {}).get("hit_rate", [])
    known["truth"] = truth_of(data, batch)
    if rates:
        over = f"{data.held_out_count} boards"
        shown = {f"asking region reads the right one, {over}": rates}
        if "reverse_hit_rate" in held_out:
            shown[f"right one reads the asking one, {over}"] = held_out["reverse_hit_rate"]
        known["columns"] = {column: [f"{rate:.1%}" for rate in values] for column, values in shown.items()}
    label = data.classes[int(batch.label)] if data.asks == "classes" else ""
    portrait = of_pixels(model, batch.image[0], data, f"{name}, held-out image {number}", label)
    return replace(portrait, block=best(rates), **known)


def of_photograph(
    path: Path, name: str = "tiny", weights: Path | None = None, size: int = 224, seed: int = 0
) -> Portrait:
    """A photograph and a BiFormer called `name`, with published weights or, as the title says, untrained.

    Raises ValueError for a size that is not 1 to LARGEST; DamagedImage; what `official.load` raises.
    """
    if not 1 <= size <= LARGEST:
        raise ValueError(f"size must be between 1 and {LARGEST} pixels, but is {size}")
    pixels = open_photograph(path, size, 1.0)
    torch.manual_seed(seed)
    model, called = BiFormer(MODELS[name]), f"BiFormer {name}"
    question = "What does the photograph show? The network is made to tell 1000 classes apart."
    title, says = f"What does an untrained {called} look at?", "Its weights are random: it has learnt nothing yet."
    if weights is not None:
        official.load(model, weights)
        title, says = f"What has {called} learnt to look at?", f"Its weights are those of {weights.name}."
    return replace(of_pixels(model, pixels, Images, path.name), title=title, question=question, says=says)


def of_pixels(
    model: nn.Module, pixels: Shaped[Tensor, "c h w"], data: DataSet | type[DataSet], source: str, label: str = ""
) -> Portrait:
    """An image as `data` has them, bytes or normalised floats, and what the model does with it.

    label: the right class, where it is known; then it is told whether the model says so. A class of data sets, instead
    of one of them, has no question.
    """
    model = copy.deepcopy(model).cpu().double().eval()
    image = normalise(pixels[None], data.mean, data.std).double()
    says, question = "", data.question if isinstance(data, DataSet) else ""
    if label:
        with torch.no_grad():
            found = data.classes[model(image).argmax()]
        says = f"The network says {found}, " + ("and that is right." if found == label else f"but it is {label}.")
    shown = pixels / 127.5 - 1 if pixels.dtype == torch.uint8 else pixels
    if data.asks != "classes":
        said, larger = answer(model, image)
        shown = padded(outlined(shown, marks(said)), larger)
        marked = ", ".join(marked_classes(said, data.classes)) or "nothing"
        says = f"Outlined in white is what the network marks: {marked}."
    return Portrait(shown, look(model, image), TITLE, question, says, source)


@torch.no_grad()
def answer(model: nn.Module, image: Float[Tensor, "1 c h w"]) -> tuple[Tensor | list, tuple[float, float]]:
    """What a network says of one image, and how many times as high and as wide is what its stages cut into regions.

    Detectors and backbones fill an image up at its bottom and its right.
    """
    larger = [(1.0, 1.0)]

    def note(backbone: Backbone, given: tuple) -> None:
        images, *sizes = given
        real = sizes[0][0] if sizes and sizes[0] is not None else images.shape[2:]
        whole = (side + -side % (backbone.region or 1) for side in images.shape[2:])
        larger.append(tuple(float(side / part) for side, part in zip(whole, real, strict=True)))

    hooks = [each.register_forward_pre_hook(note) for each in model.modules() if isinstance(each, Backbone)]
    with evaluating(model):
        said = model(image)
    for hook in hooks:
        hook.remove()
    return said, larger[-1]


def reach(model: nn.Module, image: Float[Tensor, "1 c h w"]) -> tuple[float, float]:
    """The second part of `answer`, for any model: without a `Backbone` in it nothing is filled up."""
    filled = any(isinstance(module, Backbone) for module in model.modules())
    return answer(model, image)[1] if filled else (1.0, 1.0)


def padded(image: Float[Tensor, "c h w"], larger: tuple[float, float]) -> Float[Tensor, "c y x"]:
    """The image, so many times as high and as wide; what is added is grey."""
    below, beside = (round((times - 1) * side) for times, side in zip(larger, image.shape[1:], strict=True))
    return F.pad(image, (0, beside, 0, below))


def marks(said: Float[Tensor, "1 classes h w"] | list[dict]) -> Int[Tensor, "h w"] | Float[Tensor, "n 4"]:
    """What a network says of one image: the class of each pixel, or boxes."""
    return said[0]["boxes"][said[0]["scores"] > SURE] if isinstance(said, list) else said[0].argmax(dim=0)


def marked_classes(said: Float[Tensor, "1 classes h w"] | list[dict], classes: Sequence[str]) -> list[str]:
    """The names of what is marked, but for the first class of pixels, which is taken for the background."""
    if isinstance(said, list):
        return [classes[i - 1] for i in sorted(set(said[0]["labels"][said[0]["scores"] > SURE].tolist()))]
    return [classes[i] for i in sorted(set(said[0].argmax(dim=0).flatten().tolist())) if i]


def outlined(image: Float[Tensor, "c h w"], marked: Tensor) -> Float[Tensor, "3 y x"]:
    """The image with outlines, white beside black, of classes of pixels (h w) or boxes (n 4); small ones enlarged."""
    times = max(1, 256 // max(image.shape[1:]))
    image = image.expand(3, -1, -1).repeat_interleave(times, 1).repeat_interleave(times, 2).clone()
    height, width = image.shape[1:]
    if marked.is_floating_point():
        inside = torch.zeros(height, width, dtype=torch.long)
        for number, box in enumerate((times * marked).round().long().tolist(), 1):
            left, top, right, bottom = box
            inside[top:bottom, left:right] = number
    else:
        inside = F.interpolate(marked[None, None].float(), (height, width), mode="nearest-exact")[0, 0].long()
    for value, reach in ((-1.0, 2), (1.0, 1)):  # a black line, and on its inner half a white one
        window = F.pad(inside[None, None].float(), (reach,) * 4, mode="replicate")
        most = F.max_pool2d(window, 2 * reach + 1, 1)
        least = -F.max_pool2d(-window, 2 * reach + 1, 1)
        image[:, (most != least)[0, 0]] = value
    return image


def open_photograph(path: Path, size: int, share: float | None) -> Shaped[Tensor, "3 h w"]:
    """The middle square of a photograph, the right side up: this share of its shorter side, scaled to `size` pixels.

    share None: all of it, its shorter side scaled to `size`. Raises FileNotFoundError, DamagedImage.
    """
    if not path.is_file():
        raise FileNotFoundError(f"image {path} is no file")
    with open_image(path, str(path)) as image:
        width, height = upright_size(image)
        if share is None:
            return cut_to(image, (0, 0, width, height), *scaled_size(width, height, size))
        return cut(image, centre_box(width, height, share), size)
