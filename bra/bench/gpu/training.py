"""Does training work on a GPU, and how fast: `recall` to its end, images a second, going on after a kill."""

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import mean

from bra.bench.collect import collect
from bra.bench.gpu.setting import Part, Rows, Setting
from bra.bench.pipeline import REPEATS, Pieces, loader_rate, make_jpegs
from bra.files import read_json, read_lines, results
from bra.measure import median_seconds
from bra.train.config import TrainConfig
from bra.train.loop import fit, prepare, train

IMAGES, EPOCHS = 126_689, 100  # of ImageNet-100's training part; of the recipe
SOLVED = 0.995  # of the boards, and of the hits: content routing solves recall on a CPU


def recall_pieces(setting: Setting) -> dict:
    """Every router, with every seed: all routers of one seed before the next seed."""
    return {
        f"{label}, seed {seed}": partial(learn, setting, label, seed)
        for seed in setting.sizes.seeds
        for label in setting.sizes.recall
    }


def learn(setting: Setting, label: str, seed: int) -> Rows:
    """Train to the end, or go on with a run that was interrupted."""
    out = setting.work / "recall" / f"{label}-{seed}"
    config = replace(setting.sizes.recall[label], seed=seed, out=out, resume=True, device=setting.device)
    return [{"part": "recall", "label": label, "seed": seed} | collect(train(config))]


def reached(rows: Rows) -> dict[str, dict[int, tuple[float, float]]]:
    """Accuracy on held-out boards and hit rate of the better block: by router, then by seed."""
    found = {}
    for row in rows:
        held_out = row["held_out"]
        found.setdefault(row["label"], {})[row["seed"]] = held_out["accuracy"], max(held_out["hit_rate"])
    return found


def recall_verdicts(setting: Setting, rows: Rows) -> list[str]:
    """What each router reaches, beside what it reached on a CPU with the same seeds."""
    on_cpu, found = reached(read_json(results("recall_routers.json"))["runs"]), []
    for label, seeds in reached(rows).items():
        (accuracy, hits), (theirs, their_hits) = (
            map(mean, zip(*(runs[seed] for seed in seeds), strict=True)) for runs in (seeds, on_cpu[label])
        )
        told = f"{label}, seeds {', '.join(map(str, seeds))}: {accuracy:.1%} right, hit rate {hits:.2f}"
        found.append(f"{told} (on a CPU {theirs:.1%}, {their_hits:.2f})")
        if label == "top-4":
            confirmed = "confirmed" if min(accuracy, hits) >= SOLVED else "refuted"
            found.append(f"content routing finds what it should: {confirmed}")
    return found


def image_pieces(setting: Setting) -> dict:
    """The loader, the GPU, and both."""
    return {
        "loader": partial(loader, setting),
        "GPU": partial(alone, setting, False),
        "GPU, compiled": partial(alone, setting, True),
        "both": partial(both, setting),
    }


def photographs(setting: Setting) -> Path:
    """JPEGs of noise, their shorter side 256 pixels, as the README advises; made once."""
    folder = setting.work / "jpegs"
    if not folder.exists():
        part = folder.with_name("jpegs.part")
        shutil.rmtree(part, ignore_errors=True)
        make_jpegs(part, 256, setting.sizes.jpegs)
        part.rename(folder)
    return folder


def recipe_here(setting: Setting) -> TrainConfig:
    """The recipe with as many decoding processes as this machine has cores."""
    return replace(setting.sizes.recipe, workers=setting.workers)


def rate_row(setting: Setting, kind: str, rate: float) -> dict:
    """Images a second of one thing."""
    batch = setting.sizes.recipe.batch
    about = {"part": "images", "kind": kind, "batch": batch, "precision": setting.half, "workers": setting.workers}
    return about | {"rate": rate}


def loader(setting: Setting) -> Rows:
    """Decoding alone."""
    recipe, steps = recipe_here(setting), setting.sizes.jpegs // setting.sizes.recipe.batch
    return [rate_row(setting, "loader", loader_rate(photographs(setting), recipe.images(), recipe.batch, steps))]


def learning(setting: Setting, compiled: bool = False) -> Pieces:
    """What a step of the recipe is made of."""
    recipe, folder = recipe_here(setting), photographs(setting)
    return Pieces.of(recipe, setting.sizes.network, folder, setting.device, setting.half, compiled)


def alone(setting: Setting, compiled: bool) -> Rows:
    """Augmentation and training step, on a batch that is on the GPU already."""
    found = median_seconds(learning(setting, compiled).alone(), REPEATS, setting.device)
    suffix = ", compiled" if compiled else ""
    return [rate_row(setting, kind + suffix, setting.sizes.recipe.batch / spent) for kind, spent in found.items()]


def both(setting: Setting) -> Rows:
    """Decoding, augmentation and training step together, as a run has them."""
    recipe, steps = recipe_here(setting), setting.sizes.jpegs // setting.sizes.recipe.batch
    step = learning(setting).step
    return [rate_row(setting, "both", loader_rate(photographs(setting), recipe.images(), recipe.batch, steps, step))]


def image_verdicts(setting: Setting, rows: Rows) -> list[str]:
    """Who is the slow one, and how long the whole recipe takes."""
    rates = {row["kind"]: row["rate"] for row in rows}
    found = [f"{kind}: {rate:.0f} images a second" for kind, rate in rates.items()]
    if rates.keys() >= {"loader", "augmentation", "training", "both"}:
        gpu = 1 / (1 / rates["augmentation"] + 1 / rates["training"])
        slow = "the loader" if rates["loader"] < gpu else "the GPU"
        hours = EPOCHS * IMAGES / rates["both"] / 3600
        found.append(f"{slow} is the slow one; {EPOCHS} epochs of ImageNet-100 would take {hours:.1f} hours")
    return found


def kill_pieces(setting: Setting) -> dict:
    """One for each precision that training has here."""
    return {precision: partial(killed, setting, precision) for precision in setting.trained}


def killed(setting: Setting, precision: str) -> Rows:
    """The losses of a whole run beside those of one that is killed and goes on; if they differ, of another one."""
    for name in ("whole", "killed", "again"):  # what an interruption has left
        shutil.rmtree(setting.work / "resume" / f"{precision}-{name}", ignore_errors=True)
    step, whole = setting.sizes.killed, live(setting, f"{precision}-whole", precision)
    live(setting, f"{precision}-killed", precision, step)
    row = {"part": "resume", "precision": precision, "killed_after": step, "steps": setting.sizes.resumed.steps}
    row["difference"] = largest_difference(whole, live(setting, f"{precision}-killed", precision))
    if row["difference"]:
        row["of_two_whole_runs"] = largest_difference(whole, live(setting, f"{precision}-again", precision))
    return [row]


def live(setting: Setting, name: str, precision: str, step: int | None = None) -> list[float]:
    """One life of a run, in a process of its own, killed after `step`; returns the losses that the run has so far."""
    out = setting.work / "resume" / name
    config = replace(setting.sizes.resumed, precision=precision, device=setting.device)
    given = json.dumps({"settings": config.settings(), "device": config.device, "out": str(out), "step": step})
    script = "import sys; from bra.bench.gpu.training import be_killed; be_killed(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", script, given], capture_output=True, text=True, check=False)
    if done.returncode != (0 if step is None else -signal.SIGKILL):
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise RuntimeError(f"a run of {precision} ended with {done.returncode} and said: {said[0]}")
    return [line["loss"] for line in read_lines(out / "metrics.jsonl") if "loss" in line]


def be_killed(given: str) -> None:
    """What `live` runs in the other process."""
    values = json.loads(given)
    config = TrainConfig.from_settings(
        values["settings"], device=values["device"], out=Path(values["out"]), resume=True
    )

    def watch(step: int, model) -> None:
        if step == values["step"]:
            signal.raise_signal(signal.SIGKILL)

    fit(prepare(config), watch)


def largest_difference(losses: list[float], others: list[float]) -> float:
    """Between two runs' losses, step by step. Raises ValueError for runs of different length."""
    return max(abs(a - b) for a, b in zip(losses, others, strict=True))


def kill_verdicts(setting: Setting, rows: Rows) -> list[str]:
    """Whether a run that was killed goes on with the same losses."""
    found = []
    for row in rows:
        told = f"killed after step {row['killed_after']} of {row['steps']} in {row['precision']}: "
        if not row["difference"]:
            told += "goes on with the same losses, bit for bit"
        elif row["difference"] <= 2 * row["of_two_whole_runs"]:
            told += (
                "goes on as alike as two whole runs are: losses differ by {difference:.1e} and {of_two_whole_runs:.1e}"
            )
        else:
            told += "WRONG: losses differ by {difference:.1e}, those of two whole runs by {of_two_whole_runs:.1e}"
        found.append(told.format(**row))
    return found


TRAINING = [
    Part("recall", recall_pieces, recall_verdicts),
    Part("images", image_pieces, image_verdicts),
    Part("resume", kill_pieces, kill_verdicts),
]
