"""`python -m bra.invent`: write a template, judge an entry, show who leads."""

import sys
from pathlib import Path

import tyro

from bra.arguments import errors_in_one_line
from bra.files import write_atomically
from bra.invent.judge import OURS, judge
from bra.invent.leaderboard import read_results, told
from bra.train.parallel import memory_told

NAME = "python -m bra.invent"
RESULTS = Path("results")


def new(entry: tyro.conf.Positional[Path]) -> str:
    """Write the template of an entry, which can be judged as it is.

    Args:
        entry: The file to write, such as my_router.py.
    """
    if entry.exists():
        raise FileExistsError(f"{entry} is there already: give another name")
    write_atomically(entry, (OURS / "template.py").read_text())
    return f"{entry}: answer its questions, change make_layer, then `{NAME} judge {entry}`"


def judge_entry(entry: tyro.conf.Positional[Path], out: Path = RESULTS, runs: Path = Path("runs") / "invent") -> str:
    """Judge an entry: examine it, train it on all boards with all seeds, or go on with that.

    It runs the file: read it first.

    Args:
        entry: The file; or top_k, per_head, soft, everything, template: ours.
        out: Folder for the result, NAME.json.
        runs: Folder for what goes on in training.
    """
    file = judge(entry, out, runs)
    return f"{told(read_results(out))}\n{file}"


def leaderboard(folder: tyro.conf.Positional[Path] = RESULTS) -> str:
    """Show who leads among the results of a folder.

    Args:
        folder: The folder of results.
    """
    return told(read_results(folder))


COMMANDS = {"new": new, "judge": judge_entry, "leaderboard": leaderboard}


def main() -> None:
    """The command line."""
    sys.stdout.reconfigure(errors="backslashreplace")
    with errors_in_one_line(ValueError, OSError, MemoryError), memory_told():
        print(tyro.extras.subcommand_cli_from_dict(COMMANDS, prog=NAME, description=__doc__))


if __name__ == "__main__":
    main()
