"""A data set laid out as Fashion-MNIST, of 30 training and 21 held-out images of noise."""

import gzip
import struct

import numpy as np


def write_idx(path, array, magic=b"\0\0\x08", cut=None):
    """A gzipped IDX file."""
    head = magic + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress((head + array.tobytes())[:cut]))


def write_fashion_mnist(folder, sizes=(28, 28)):
    """The four files in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    draw = np.random.default_rng(0)
    for split, count in (("train", 30), ("t10k", 21)):
        pixels, labels = draw.integers(256, size=(count, *sizes), dtype=np.uint8), draw.integers(10, size=count)
        write_idx(folder / f"{split}-images-idx3-ubyte.gz", pixels)
        write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels.astype(np.uint8))
