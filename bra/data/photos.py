"""The notebooks' photographs, and plain features of them (colour, edges) where a trained network's would stand."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")  # free, and part of scikit-image


def photograph(name: str = "rocket") -> Float[Tensor, "3 h w"]:
    """One of PHOTOGRAPHS, -1 black to 1 bright. Raises ValueError for another name."""
    from skimage import data  # only the notebooks need it

    if name not in PHOTOGRAPHS:
        raise ValueError(f"name must be one of {', '.join(PHOTOGRAPHS)}, but is {name}")
    return torch.from_numpy(getattr(data, name)()).permute(2, 0, 1) / 127.5 - 1


def colour_and_edges(image: Float[Tensor, "3 h w"], patch: int) -> Float[Tensor, "1 rows columns 5"]:
    """Plain features of each patch of patch x patch pixels.

    Mean red, green and blue, and how much brightness changes down and across; each with mean 0 and deviation 1 over
    the image.
    """
    brightness = image.mean(dim=0)
    down = F.pad((brightness[1:] - brightness[:-1]).abs(), (0, 0, 0, 1))
    across = F.pad((brightness[:, 1:] - brightness[:, :-1]).abs(), (0, 1))
    features = F.avg_pool2d(torch.cat([image, down[None], across[None]]), patch).permute(1, 2, 0)
    deviation = features.std(dim=(0, 1)).clamp(min=1e-6)  # in an image without edges it is 0
    return ((features - features.mean(dim=(0, 1))) / deviation)[None]
