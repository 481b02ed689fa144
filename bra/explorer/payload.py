"""Everything that the explorer shows, as one JSON object: what its front end reads.

Its form is written down in front_end/layer.js, as types.

Numbers that are many are packed: whole numbers as 2 bytes, affinities as 2 bytes between the lowest and the highest,
token weights as 1 or half a byte, each row relative to its largest. For a model in float64 the object is the
same on every machine.
"""

import base64

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from bra.data.names import printable
from bra.explorer.portrait import Portrait
from bra.look.views import View

LARGEST_SIDE = 448  # pixels of the image that is stored: more than a page shows would only make it heavy
BYTES_UP_TO = 500_000  # token weights: half a byte each above this
PADDING = 2**16 - 1  # stands for an affinity of -inf
TEXTS = ("title", "question", "says", "source", "hint")


def pack(portrait: Portrait) -> dict:
    """The object for a portrait."""
    views, earlier = portrait.views, portrait.earlier
    count = sum(view.weights.numel() for view in views if view.weights is not None)
    levels = 255 if count <= BYTES_UP_TO else 15
    histories = [
        [pack_routes(snapshot.index[i], snapshot.affinity[i]) for snapshot in earlier] for i in range(len(views))
    ]
    return {
        **{name: printable(getattr(portrait, name)) for name in TEXTS},
        "image": pack_image(portrait.image),
        "steps": [*(snapshot.step for snapshot in earlier), portrait.step],
        "truth": portrait.truth and [int(region) for region in portrait.truth],
        "columns": {name: [str(value) for value in values] for name, values in portrait.columns.items()},
        "layers": [
            pack_view(view, levels) | {"routes": [*then, pack_routes(view.index, view.affinity)]}
            for view, then in zip(views, histories, strict=True)
        ],
    }


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


def pack_routes(index: Int[Tensor, "r k"], affinity: Float[Tensor, "r r"]) -> dict:
    """Index and affinity, and what the lowest and highest affinity are."""
    k, affinity = index.shape[1], affinity.double().numpy()
    finite = affinity[np.isfinite(affinity)]
    low, high = (float(f"{value:.5g}") for value in (finite.min(), finite.max())) if len(finite) else (0.0, 0.0)
    share = (np.clip(affinity, low, max(low, high)) - low) / (high - low) if high > low else np.zeros_like(affinity)
    codes = np.where(np.isfinite(affinity), np.round(share * (PADDING - 1)), PADDING)
    return {
        "k": k,
        "index": encode(index.numpy().astype("<u2")),
        "low": low,
        "high": high,
        "affinity": encode(codes.astype("<u2")),
    }


def encode(numbers: np.ndarray) -> str:
    """Bytes as text, as JSON wants it."""
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()
