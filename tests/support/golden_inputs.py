"""The weights and images behind tests/support/golden, drawn from names and sizes, so that none need be stored."""

import zlib

import numpy as np


def entry(name: str, shape: list[int]) -> np.ndarray:
    """The value of one entry of the official models' state dict: near 1 for scales, near 0 for shifts, else normal."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, dtype=np.int64)
    z = np.random.default_rng([0, zlib.crc32(name.encode())]).standard_normal(tuple(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return 1 + 0.1 * np.abs(z)
    if name.endswith("running_mean"):
        return 0.1 * z
    if name.endswith(".weight") and len(shape) == 1:
        return 1 + 0.1 * z
    if name.endswith(".bias"):
        return 0.02 * z
    return z * np.float32(0.5 * np.prod(shape[1:]) ** -0.5)


def images() -> np.ndarray:
    """Two images of 224 x 224."""
    return np.random.default_rng([0, 224]).standard_normal((2, 3, 224, 224)).astype(np.float32)


def output_weights() -> np.ndarray:
    """What the logits are multiplied with before they are summed, for gradients."""
    return np.random.default_rng([1, 224]).standard_normal((2, 1000))
