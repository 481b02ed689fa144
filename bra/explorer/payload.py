"""Everything that the explorer shows, as one JSON object: what its front end, explorer.js, reads.

Numbers that are many are packed: whole numbers as 2 bytes, affinities as 2 bytes between the lowest and the highest,
token weights as 1 or half a byte, each row relative to its largest. For a model in float64 the object is the
same on every machine.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from bra.look.views import View

LARGEST_SIDE = 448  # pixels of the image that is stored: more than a page shows would only make it heavy
BYTES_UP_TO = 500_000  # token weights: half a byte each above this
PADDING = 2**16 - 1  # stands for an affinity of -inf


def pack(
    views: Sequence[View],
    image: Float[Tensor, "c h w"],
    *,
    title: str = "",
    history: Sequence[Mapping] = (),
    step: int = 0,
    truth: tuple[int, int] | None = None,
    columns: Mapping[str, Sequence[float | str]] | None = None,
) -> dict:
    """The object for these views of one image (1 or 3 channels, -1 black to 1 bright). For the rest see `Explorer`.

    Raises ValueError for an image that is none of this, or whose sides do not fit the tokens; for no views; for pages
    of `history` that do not fit them; for a truth outside the grid; for columns with not one value a view.
    """
    require_image(image, views)
    pages = [*read_pages(history, views, step), (step, views)]
    regions = {view.grid[0] * view.grid[1] for view in views}
    if truth is not None and not all(0 <= region < max(regions) for region in truth):
        raise ValueError(f"truth must be two regions of 0 to {max(regions) - 1}, but is {tuple(truth)}")
    for name, values in (columns or {}).items():
        if len(values) != len(views):
            raise ValueError(f"columns must have {len(views)} values, one a layer, but {name!r} has {len(values)}")
    count = sum(view.weights.numel() for view in views if view.weights is not None)
    levels = 255 if count <= BYTES_UP_TO else 15
    return {
        "title": title,
        "image": pack_image(image),
        "steps": [at for at, _ in pages],
        "truth": None if truth is None else [int(region) for region in truth],
        "columns": {name: [str(value) for value in values] for name, values in (columns or {}).items()},
        "layers": [
            pack_view(view, levels) | {"routes": [pack_routes(tables[i]) for _, tables in pages]}
            for i, view in enumerate(views)
        ],
    }


def require_image(image: Tensor, views: Sequence[View]) -> None:
    """Raise ValueError unless the image could have given maps of these sizes: as many pixels a token down as across."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"image must be (3 h w) or (1 h w) to be shown, but is {tuple(image.shape)}: pass shown=")
    if not views:
        raise ValueError("views must hold at least one layer, but there is none")
    (height, width) = image.shape[1:]
    for view in views:
        h, w = view.size  # a stride of s gives anything between side / s - 1 and side / s + 1 tokens
        if height / (h + 1) >= width / max(w - 1, 1e-9) or width / (w + 1) >= height / max(h - 1, 1e-9):
            raise ValueError(
                f"image must have the shape of the map of {view.name}, {h} x {w} tokens, "
                f"but is {height} x {width} pixels"
            )


def read_pages(history: Sequence[Mapping], views: Sequence[View], last: int) -> list[tuple[int, list[View]]]:
    """The pages of before `last`, as views without weights. Raises ValueError for those that do not fit `views`."""
    pages: list[tuple[int, list[View]]] = []
    for page in history:
        step, tables = page["step"], list(zip(page["index"], page["affinity"], strict=True))
        if len(tables) != len(views):
            raise ValueError(f"history must have {len(views)} layers a page, but has {len(tables)} at step {step}")
        if pages and step <= pages[-1][0]:
            raise ValueError(f"history must be in the order of its steps, but {step} follows {pages[-1][0]}")
        if step < last:
            then = [
                replace(view, index=torch.tensor(index), affinity=torch.tensor(affinity), weights=None)
                for view, (index, affinity) in zip(views, tables, strict=True)
            ]
            pages.append((step, then))
    return pages


def pack_image(image: Float[Tensor, "c h w"]) -> dict:
    """Its pixels, 0..255, three to a pixel; a large one is scaled down."""
    pixels = (image.detach().cpu().double() / 2 + 0.5).clamp(0, 1).expand(3, -1, -1)
    if (side := max(pixels.shape)) > LARGEST_SIDE:
        size = [max(1, round(length * LARGEST_SIDE / side)) for length in pixels.shape[1:]]
        pixels = F.interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]
    codes = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0)
    return {"height": codes.shape[0], "width": codes.shape[1], "rgb": encode(codes.numpy())}


def pack_view(view: View, levels: int) -> dict:
    """What stays over the steps, and the token weights in 0..levels."""
    packed = {
        "label": view.label,
        "grid": list(view.grid),
        "size": list(view.size),
        "heads": 0,
        "levels": levels,
        "weights": "",
    }
    if view.weights is not None:
        weights = view.weights.double()
        largest = weights.amax(dim=-1, keepdim=True).clamp(min=1e-300)  # of a token that reads padding alone it is 0
        codes = (weights / largest).sqrt().mul(levels).round().to(torch.uint8).numpy().reshape(-1)
        if levels == 15:
            codes = np.pad(codes, (0, len(codes) % 2))
            codes = codes[::2] * 16 + codes[1::2]
        packed |= {"heads": view.weights.shape[2], "weights": encode(codes)}
    return packed


def pack_routes(view: View) -> dict:
    """Index and affinity, and what the lowest and highest affinity are."""
    affinity = view.affinity.double().numpy()
    finite = affinity[np.isfinite(affinity)]
    low, high = (float(f"{value:.5g}") for value in (finite.min(), finite.max())) if len(finite) else (0.0, 0.0)
    share = (np.clip(affinity, low, max(low, high)) - low) / (high - low) if high > low else np.zeros_like(affinity)
    codes = np.where(np.isfinite(affinity), np.round(share * (PADDING - 1)), PADDING)
    return {
        "k": view.index.shape[1],
        "index": encode(view.index.numpy().astype("<u2")),
        "low": low,
        "high": high,
        "affinity": encode(codes.astype("<u2")),
    }


def encode(numbers: np.ndarray) -> str:
    """Bytes as text, as JSON wants it."""
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
