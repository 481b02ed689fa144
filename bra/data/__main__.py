"""`python -m bra.data`: prepare a folder of images for `python -m bra.train --data folder:OUT`, or of photographs."""

import os
import sys
from pathlib import Path

import tyro

from bra.arguments import errors_in_one_line
from bra.data.copies import Corrupt, shrink
from bra.data.imagenet100 import imagenet100
from bra.data.names import printable
from bra.data.samples import make_nuclei, make_trees


def make_imagenet100(
    imagenet: Path, out: Path, resize: int | None = None, corrupt: Corrupt = "fatal", workers: int = 2
) -> list[str]:
    """The hundred classes of ImageNet-100 (Tian et al., 2020) out of a folder of ImageNet, linked or made smaller.

    Args:
        imagenet: Folder with ImageNet's train/ID/* and val/ID/*.
        out: Folder to make; the same command goes on with it after Ctrl-C.
        resize: Copy the images as JPEGs whose shorter side is at most this; None: link to their folders.
        corrupt: Damaged images, which only copying finds: stop at the first, or leave them out and name them.
        workers: Processes that copy.
    """
    return imagenet100(at_home(imagenet), at_home(out), resize, corrupt, workers)


def make_smaller(folder: Path, out: Path, resize: int = 256, corrupt: Corrupt = "fatal", workers: int = 2) -> list[str]:
    """A copy of a folder of images with smaller ones, which are decoded faster.

    Args:
        folder: Folder with train/CLASS/* and val/CLASS/*.
        out: Folder to make; the same command goes on with it after Ctrl-C.
        resize: Images become JPEGs whose shorter side is at most this.
        corrupt: Damaged images: stop at the first, or leave them out and name them.
        workers: Processes that copy.
    """
    return shrink(at_home(folder), at_home(out), resize, corrupt, workers)


def nuclei(out: Path, package: Path | None = None) -> list[str]:
    """Nuclei of cells with their masks, out of the Python package stardist, which pip downloads but does not install.

    Args:
        out: Folder to make, for masks:OUT and coco:OUT.
        package: The package's file (.whl), if it is there already.
    """
    return told(out, ("masks", "coco"), make_nuclei(at_home(out), package and at_home(package)))


def trees(out: Path, package: Path | None = None) -> list[str]:
    """Trees in aerial photographs with boxes, out of the Python package deepforest, which pip does not install either.

    Args:
        out: Folder to make, for coco:OUT.
        package: The package's file (.whl), if it is there already.
    """
    return told(out, ("coco",), make_trees(at_home(out), package and at_home(package)))


def told(out: Path, kinds: tuple[str, ...], examples: dict[str, list]) -> list[str]:
    """Say what was made, and under which names it is read. No image was damaged: an empty list."""
    names = " or ".join(f"{kind}:{printable(out)}" for kind in kinds)
    counts = ", ".join(
        f"{len(made)} tiles with {sum(len(example.objects) for example in made)} objects in {split}"
        for split, made in examples.items()
    )
    print(f"{names}: {counts}; {printable(out / 'SOURCE.txt')} says whose they are")
    return []


def at_home(path: Path) -> Path:
    """The path with ~ as the home folder, which a shell leaves as it is in --out=~/x."""
    return Path(os.path.expanduser(path))


def main() -> None:
    """The command line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot say must not stop us
    commands = {"imagenet100": make_imagenet100, "shrink": make_smaller, "nuclei": nuclei, "trees": trees}
    with errors_in_one_line(ValueError, OSError, MemoryError, stopped="stopped; the same command goes on"):
        damaged = tyro.extras.subcommand_cli_from_dict(commands, prog="python -m bra.data")
    if damaged:
        print(f"{len(damaged)} damaged images were left out, and named in damaged.txt:", *damaged, sep="\n")


if __name__ == "__main__":
    main()
