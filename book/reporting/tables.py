"""All tables of results by name. In book/, `python -m reporting.tables bench_all_cpu models` prints one as Markdown."""

import sys
from pathlib import Path

from . import learnt, speed
from .reading import RESULTS, Table, read

TABLES = {  # the file, and words more where it makes several tables
    "recall_routers": learnt.recall_routers,
    "recall_untrained": learnt.recall_untrained,
    "recall_cuts": learnt.recall_cuts,
    "recall_longer": learnt.recall_seeds,
    "recall_leaks": learnt.recall_seeds,
    "recall_boards": learnt.recall_seeds,
    "fashion_mnist": learnt.fashion_mnist,
    "invent": learnt.invent,
    "dense_recall": learnt.dense_recall,
    "dense_recall_boxes": learnt.dense_recall_boxes,
    "nuclei": learnt.nuclei,
    "bench_all_cpu models": speed.bench_models,
    "bench_all_cpu others": speed.bench_others,
    "bench_all_cpu layers train": speed.bench_layers("train"),
    "bench_all_cpu layers inference": speed.bench_layers("inference"),
    "bench_all_cpu attention": speed.bench_attention,
    "dense_cpu": speed.dense_cpu,
    "bench_peers_cpu": speed.bench_peers,
    "bench_profile_cpu": speed.bench_profile,
    "kernels_predicted train": speed.kernels_predicted("train"),
    "kernels_predicted inference": speed.kernels_predicted("inference"),
    "classroom": speed.classroom,
}


def table(name: str, folder: Path = RESULTS) -> Table:
    """The table of a result. Raises ValueError if there is none of this name, or the result does not say its origin."""
    if name not in TABLES:
        raise ValueError(f"no table {name!r}: one of {', '.join(TABLES)}")
    return TABLES[name](read(name.split()[0], folder))


if __name__ == "__main__":
    print(table(" ".join(sys.argv[1:])).markdown())
