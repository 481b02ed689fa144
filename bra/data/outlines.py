"""Outlines of objects as COCO writes them, polygons or lengths of runs, and the masks that they stand for."""

import warnings

import numpy as np
from jaxtyping import Bool

from bra.arguments import install
from bra.data.decoding import WrongLabel

Outline = list | dict
ADVICE = f"masks of objects need the library pycocotools: {install('dense')}"


def masks_library():
    """The functions on masks of pycocotools. Raises ValueError where it is not installed."""
    try:
        from pycocotools import mask  # only here: an extra of its own
    except ImportError as error:
        raise ValueError(ADVICE) from error
    return mask


def require_outline(outline: object, width: int, height: int, where: str) -> None:
    """Raise ValueError unless this is a list of polygons, or lengths of runs for an image of this size."""
    polygons = isinstance(outline, list) and outline and all(map(is_polygon, outline))
    if not polygons and not is_runs(outline, width, height):
        allowed = f"polygons of three points or more, or runs for an image of {width} x {height}"
        raise ValueError(f"{where} must have as segmentation {allowed}, but it is {outline!r:.80}")


def is_runs(outline: object, width: int, height: int) -> bool:
    """Whether this has a size and counts: the lengths, or the text that pycocotools makes of them."""
    if not isinstance(outline, dict) or outline.get("size") != [height, width]:
        return False
    counts = outline.get("counts")
    if isinstance(counts, list):
        return all(type(run) is int and run >= 0 for run in counts) and sum(counts) == width * height
    return isinstance(counts, str) and counts != ""


def is_polygon(points: object) -> bool:
    """Whether this is a list x, y, x, y, ... of three points or more."""
    numbers = isinstance(points, list) and all(type(value) in (int, float) for value in points)
    return numbers and len(points) >= 6 and len(points) % 2 == 0


def draw_outline(outline: Outline, width: int, height: int, where: str) -> Bool[np.ndarray, "height width"]:
    """The mask of an outline that `require_outline` let pass. Raises WrongLabel if its runs are no such code."""
    library = masks_library()
    try:
        runs = outline
        if isinstance(outline, list):
            runs = library.merge(library.frPyObjects(outline, height, width))
        elif isinstance(outline["counts"], list):
            runs = library.frPyObjects(outline, height, width)
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # of pycocotools 2.0.11, by NumPy
            return library.decode(runs).astype(bool)
    except ValueError as error:
        raise WrongLabel(f"{where} has a segmentation that is no mask: {error}") from error


def runs_of(mask: Bool[np.ndarray, "height width"]) -> dict:
    """A mask as lengths of runs, down one column after the other, the first of zeros: COCO's, not compressed."""
    pixels = mask.T.ravel()
    edges = np.flatnonzero(np.diff(pixels, prepend=False, append=not pixels[-1]))
    counts = np.diff(edges, prepend=0).tolist()
    return {"counts": counts, "size": list(mask.shape)}
