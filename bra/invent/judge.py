"""The referee: read an entry, refuse it or train it on all boards with all seeds, keep what came out in one file."""

import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from bra.biformer import BiFormer
from bra.block import Block
from bra.data import RecallBoards, derive_seed
from bra.data.recall import CELL
from bra.files import read_json, write_atomically
from bra.invent.boards import BOARDS, DIM, HEADS, SEEDS, Board, cost, rules
from bra.invent.entries import top_k
from bra.invent.reads import Refused, examine_network
from bra.invent.rules import MakeLayer, build, examine, in_one_line
from bra.measure import environment
from bra.train.learner import Learner
from bra.train.loop import Training, fit, go_on, look_away
from bra.train.models import build_model
from bra.train.parallel import open_accelerator
from bra.train.tasks import TASKS
from bra.train.writer import RunWriter

OURS = Path(__file__).parent / "entries"


@dataclass(frozen=True)
class Entry:
    """A file that was read. title: the first line of its docstring. sha256: of its text."""

    name: str
    title: str
    sha256: str
    make_layer: MakeLayer


def read_entry(path: Path) -> Entry:
    """Read an entry, and run its file: whoever judges should have read it. One of ours may be named without its place.

    Raises FileNotFoundError; Refused if it cannot be run, has no docstring or no `make_layer`.
    """
    ours = OURS / f"{path.stem}.py"
    path = ours if not path.exists() and path.suffix in ("", ".py") and ours.exists() else path
    source = path.read_bytes().replace(b"\r\n", b"\n")  # the same file on any system
    spec = importlib.util.spec_from_file_location(f"entry_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise Refused(f"{path} must be a Python file, such as {path.stem}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses and annotations look for it
    with in_one_line("when its file is run"):
        spec.loader.exec_module(module)
    if not callable(getattr(module, "make_layer", None)) or not module.__doc__:
        raise Refused("it must have a docstring, and a function make_layer(dim, heads, grid, k)")
    title = module.__doc__.strip().split("\n")[0]
    return Entry(path.stem, title, hashlib.sha256(source).hexdigest(), module.make_layer)


def network(entry: Entry, board: Board, seed: int, data: RecallBoards) -> BiFormer:
    """The network of a board with the entry's layers; all that top-k has too begins with top-k's weights of the seed.

    Raises Refused if the layer lacks any of these weights, or has them in another shape.
    """
    model = build_model(board.config(seed), data)
    torch.manual_seed(derive_seed("entry", seed))
    for block in [module for module in model.modules() if isinstance(module, Block)]:
        plain = block.attention
        block.attention = build(entry.make_layer, plain.dim, plain.heads, plain.grid, board.k)
        with in_one_line("when top-k's first weights are put into its layer"):
            unknown = block.attention.load_state_dict(plain.state_dict(), strict=False).unexpected_keys
        if unknown:
            raise Refused(f"its layer must have the weights that every layer has, but lacks {', '.join(unknown)}")
    return model


def costs(make_layer: MakeLayer) -> int:
    """Multiply-adds of a layer for each board, summed up."""
    return sum(cost(build(make_layer, DIM, HEADS, board.grid, board.k)) for board in BOARDS.values())


def learn(entry: Entry, name: str, seed: int, runs: Path) -> dict:
    """Train the entry on one board with one seed, or go on with it; what it reached on held-out boards.

    Raises Refused if training fails, or if it then reads more than it says; KeyboardInterrupt after Ctrl-C.
    """
    board = BOARDS[name]
    data = board.config(seed).open_data()
    config = board.config(seed).resolved(data)
    learner = Learner(network(entry, board, seed, data), TASKS[data.asks](data), open_accelerator("cpu", "fp32"))
    # changed files and changed rules begin anew
    mark = hashlib.sha256(f"{entry.sha256} {rules()}".encode()).hexdigest()[:8]
    run = RunWriter(runs / f"{entry.name}-{mark}" / f"{name}-{seed}", config.settings(), resume=True)
    try:
        with in_one_line("while it is trained"):
            fit(Training(config, data, learner, run, go_on(run, learner)), look_away)
            examine_network(learner.model, data.task.sample(1, seed).image, CELL)
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"stopped: the same command goes on with {name}, seed {seed}") from error
    evaluations = [line for line in run.read_metrics() if "held_out" in line]
    found = {"board": name, "seed": seed} | evaluations[-1]["held_out"]
    found |= {"untrained": evaluations[0]["held_out"], "seconds": round(evaluations[-1]["seconds"])}
    return found | {"environment": environment()}


def judge(path: Path, out: Path, runs: Path) -> Path:
    """Examine an entry, train it on every board with every seed, and write out/NAME.json after each.

    What the file holds already, of the same entry under the same rules, is not done again. Raises Refused.
    """
    entry = read_entry(path)
    for board in BOARDS.values():
        examine(entry.make_layer, DIM, HEADS, board.grid, board.k)
    file = out / f"{entry.name}.json"
    head = {"entry": entry.name, "title": entry.title, "sha256": entry.sha256, "rules": rules()}
    head["command"] = f"python -m bra.invent judge {entry.name if path.stem == str(path) else path.name}"
    head["multiply_adds"] = {"entry": costs(entry.make_layer), "top_k": costs(top_k.make_layer)}
    before = read_json(file) if file.exists() else {}
    same = all(before.get(key) == json.loads(json.dumps(value)) for key, value in head.items() if key != "command")
    done = {(run["board"], run["seed"]): run for run in before["runs"]} if same else {}
    for seed, name in ((seed, name) for seed in SEEDS for name in BOARDS):
        if (name, seed) not in done:
            print(f"{entry.name}: run {len(done) + 1} of {len(SEEDS) * len(BOARDS)}", file=sys.stderr)
            done[name, seed] = learn(entry, name, seed, runs)
            write(file, head | {"environment": done[name, seed]["environment"]}, list(done.values()))
    return file


def write(file: Path, head: dict, runs: list[dict]) -> None:
    """A result, one line a run."""
    lines = ",\n".join("  " + json.dumps(run) for run in runs)
    write_atomically(file, json.dumps(head, indent=1)[:-2] + f',\n "runs": [\n{lines}\n ]\n}}\n')
