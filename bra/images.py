"""Images on disk: decode them, and find those that are damaged before training does."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

IMAGE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # the last bytes of a whole file


class DamagedImage(ValueError):
    """A file that is not, or not wholly, an image."""


class ImageFiles(Dataset):
    """Images on disk, decoded when asked for: (pixels (3 size size) of 0..255, label)."""

    def __init__(self, files: list[tuple[Path, int]], size: int):
        self.files, self.size = files, size

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        path, label = self.files[i]
        image = open_image(path)
        scale = self.size / min(image.size)
        image = image.resize([max(self.size, round(side * scale)) for side in image.size], Image.Resampling.BICUBIC)
        left, top = ((side - self.size) // 2 for side in image.size)
        image = image.crop((left, top, left + self.size, top + self.size))
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), label


def open_image(path: Path) -> Image.Image:
    """Decode an image file as RGB. Raises DamagedImage, naming the file."""
    try:
        with Image.open(path, formats=sorted(set(IMAGE_FORMATS.values()))) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedImage(f"{path} is not a whole image: {error}") from error


def check_whole(path: Path) -> None:
    """Raise DamagedImage if the file is cut short. Looks at its last bytes; decodes it only if these are odd.

    Damage in the middle shows only when the image is decoded.
    """
    mark = END_MARKS.get(IMAGE_FORMATS[path.suffix.lower()])
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - 16))
        if mark is None or not file.read().rstrip(b"\0").endswith(mark):
            open_image(path)
