"""`python -m bra.train`: train, evaluate a run again, or ask its network about a photograph."""

import sys
from pathlib import Path

import tyro

from bra.arguments import errors_in_one_line
from bra.data import DamagedImage, WrongLabel
from bra.train.config import TrainConfig
from bra.train.loop import complete, prepare
from bra.train.parallel import memory_told
from bra.train.predict import predict
from bra.train.recipes import RECIPES
from bra.train.report import evaluate_again, table

NAME = "python -m bra.train"
ABOUT = f"""{TrainConfig.__doc__}

A recipe may stand first: {", ".join(RECIPES)}. `{NAME} evaluate RUN` evaluates a run again, `{NAME} predict RUN PHOTO`
asks its network about a photograph.
"""
# said before training, for how busy the cores are nobody can tell beforehand
BUSY = "500 steps of recall take about a minute on two idle cores. Where others are busy, OMP_NUM_THREADS=1 is faster."


def evaluate_run(
    run: tyro.conf.Positional[Path], data: str | None = None, device: str = "auto", workers: int = 2
) -> str:
    """Evaluate a run's weights once more, and compare with the accuracy that it noted.

    Args:
        run: The run folder.
        data: Where the data are now; None: where they were.
        device: cpu, cuda, mps, ...; auto takes the best there is.
        workers: Processes that decode photographs.
    """
    return evaluate_again(run, data, device, workers)


def predict_photo(run: tyro.conf.Positional[Path], photo: tyro.conf.Positional[Path], out: Path | None = None) -> str:
    """What the network of a run says of a photograph: its class, the class of each pixel, or boxes.

    Args:
        run: The run folder.
        photo: The photograph.
        out: File to write to; None: beside the photograph.
    """
    return predict(run, photo, out)


def asked_for(words: list[str]) -> TrainConfig:
    """The settings of a command line: those of a recipe, if one stands first, with what is changed behind it."""
    recipe, words = (RECIPES[words[0]], words[1:]) if words[:1] and words[0] in RECIPES else (RECIPES["recall"], words)
    return tyro.cli(TrainConfig, prog=NAME, args=words, default=recipe(), description=ABOUT)


def main() -> None:
    """The command line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot say must not stop us
    words = sys.argv[1:]
    with errors_in_one_line(ValueError, OSError, MemoryError), memory_told():
        for name, command in {"evaluate": evaluate_run, "predict": predict_photo}.items():
            if words[:1] == [name]:
                print(tyro.cli(command, prog=f"{NAME} {name}", args=words[1:]))
                return
        training = prepare(asked_for(words))
    on_boards = training.config.data == "recall" and training.learner.accelerator.device.type == "cpu"
    if on_boards and training.run.writer and not training.run.ended:
        print(BUSY, file=sys.stderr)
    # any other ValueError is now a mistake of ours
    mendable = FloatingPointError, DamagedImage, WrongLabel, OSError, MemoryError
    with errors_in_one_line(*mendable):
        run = complete(training)
    if training.run.writer:
        print(table(run))


if __name__ == "__main__":
    main()
