"""`python -m bra.train`: train, or evaluate a run again."""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from bra.data import DamagedImage
from bra.files import read_json
from bra.train.config import TrainConfig
from bra.train.evaluation import evaluate
from bra.train.loop import complete, prepare
from bra.train.models import load_model
from bra.train.parallel import pick_device
from bra.train.recipes import RECIPES
from bra.train.report import table
from bra.train.runs import RunFolder


@dataclass(frozen=True)
class Evaluation:
    """Evaluate a run's weights once more, and compare with the accuracy that it noted."""

    eval: Path
    """The run folder."""
    data: str | None = None
    """Where the data are now; None: where they were."""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto takes the best there is."""
    workers: int = 2
    """Processes that decode photographs."""


def evaluate_again(asked: Evaluation) -> str:
    """Accuracy of a run's weights, those at the end and the best, beside what the run noted when it measured them.

    Raises FileNotFoundError if it has kept none yet; ValueError if they do not fit.
    """
    run = RunFolder(asked.eval, {}, resume=True, writer=False)
    noted = {"best": run.read_best()["accuracy"]} if run.best.exists() else {}
    if run.summary.exists():
        noted["model"] = read_json(run.summary)["held_out"]["accuracy"]
    if not noted:
        raise FileNotFoundError(f"{asked.eval} holds no weights of a run: train first, or give another folder")
    lines = [f"{'weights':24}accuracy now   noted"]
    for name, accuracy in noted.items():
        moved = {"data": asked.data} if asked.data else {}
        model, data, _ = load_model(asked.eval, name, workers=asked.workers, **moved)
        run.describe_data(data.classes, data.count, data.held_out_count)
        now = evaluate(model.to(pick_device(asked.device)), data)["accuracy"]
        lines.append(f"{name + '.safetensors':24}{now:12.4%}{accuracy:10.4%}")
    return "\n".join(lines)


def main() -> None:
    """The command line: what the user can mend is said in one line; only our own mistakes show a traceback."""
    arguments, name = sys.argv[1:], "python -m bra.train"
    try:
        try:
            if any(argument.split("=")[0] == "--eval" for argument in arguments):
                print(evaluate_again(tyro.cli(Evaluation, prog=name)))
                return
            recipe = RECIPES[arguments.pop(0)] if arguments and arguments[0] in RECIPES else RECIPES["recall"]
            about = f"{TrainConfig.__doc__} A recipe may stand first: {', '.join(RECIPES)}. --eval RUN evaluates again."
            training = prepare(tyro.cli(TrainConfig, prog=name, args=arguments, default=recipe(), description=about))
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        run = complete(training)
        if run.writer:
            print(table(run))
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        sys.exit(130)
    except (FloatingPointError, DamagedImage, OSError) as error:
        sys.exit(f"error: {str(error).splitlines()[-1]}")  # from a worker process, the message comes below a traceback


if __name__ == "__main__":
    main()
