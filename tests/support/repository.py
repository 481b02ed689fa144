"""Where things stand in the repository: what the tests of its form share. Imports nothing from `bra`."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
# fmt: off
STEMS = ["patterns", "partition", "adjacency", "topk", "gather", "attention", "lce", "layer", "biformer",
         "kernels", "dense", "train", "explorer", "imagenet100"]  # of the notebooks, by number
# fmt: on
STEPS = STEMS[: STEMS.index("train")]  # one file each; `train` and `explorer` are rooms, `imagenet100` a file in one
LEAVES = ["arguments", "files", "measure"]
ROOMS = ["data", "official", "look", "draw", "explorer", "train", "invent", "bench"]  # each may import those before it
MODULES = sorted(path.stem for path in (ROOT / "bra").iterdir() if path.suffix != ".typed" and path.stem[0] != "_")
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
