"""Tables of networks that were trained: who answers, who hits, and where routing by content does not pay."""

from bra.invent import leaderboard

from .reading import Table, by_label, mean


def held_out(runs: list[dict], what: str) -> list[float]:
    """What each run reached on held-out images; of the hit rates, that of the better block."""
    values = [run["held_out"][what] for run in runs]
    return [max(value) if isinstance(value, list) else value for value in values]


def steps_to_95(runs: list[dict]) -> str:
    """After how many steps the runs had learnt the task; of how many, where not of all."""
    reached = [run["steps_to_95"] for run in runs if run["steps_to_95"]]
    if not reached:
        return "-"
    some = f", {len(reached)} of {len(runs)}" if len(reached) < len(runs) else ""
    return f"{min(reached)} to {max(reached)}{some}"


def recall_routers(content: dict) -> Table:
    """Who answers, who hits, and how soon."""
    rows = []
    for label, runs in by_label(content).items():
        right, hits = held_out(runs, "accuracy"), held_out(runs, "hit_rate")
        told = [f"{mean(right):.1%}", f"{min(right):.1%}", f"{mean(hits):.2f}", f"{min(hits):.2f}"]
        rows.append([label, *told, steps_to_95(runs)])
    return Table(["router", "mean accuracy", "worst seed", "mean hit rate", "worst seed", "steps to 95%"], rows)


def recall_seeds(content: dict) -> Table:
    """Every seed, where there are few: accuracy, hit rate, steps."""
    rows = []
    for label, runs in by_label(content).items():
        hits = f"{mean(held_out(runs, 'hit_rate')):.2f}"
        rows.append([label, *(f"{right:.1%}" for right in held_out(runs, "accuracy")), hits, steps_to_95(runs)])
    return Table(["router", *seeds_of(content), "mean hit rate", "steps to 95%"], rows)


def seeds_of(content: dict) -> list[str]:
    """Column names."""
    return [f"seed {run['seed']}" for run in next(iter(by_label(content).values()))]


def recall_untrained(content: dict) -> Table:
    """How often a router hits before anything is learnt."""
    rows = []
    for start, when in ((start, when) for start in ("alike", "independent") for when in ("at once", "settled")):
        blocks = zip(*(run[when] for run in content["runs"] if run["start"] == start), strict=True)
        rows.append([start, when, *(f"{told(rates):.2f}" for rates in blocks for told in (mean, min, max))])
    names = [f"{what}, block {block}" for block in (0, 1) for what in ("mean", "least", "most")]
    return Table(["W_k and W_q", "batch norm", *names], rows, keys=2)


def recall_cuts(content: dict) -> Table:
    """What is left of the answer when single routes are forbidden."""
    rows = []
    for cut in [name for name in content["runs"][0] if name.startswith(("as it is", "without", "left out"))]:
        shares = [run[cut] for run in content["runs"]]
        rows.append([cut, *(f"{told(shares):.0%}" for told in (min, mean, max))])
    return Table(["route", "least", "mean", "most"], rows)


def fashion_mnist(content: dict) -> Table:
    """Where the router hardly matters."""
    rows = []
    for label, runs in by_label(content).items():
        right = held_out(runs, "accuracy")
        rows.append([label, *(f"{share:.1%}" for share in right), f"{mean(right):.1%}"])
    return Table(["router", *seeds_of(content), "mean"], rows)


def invent(content: dict) -> Table:
    """Who leads among our routers: the table that `python -m bra.invent leaderboard` prints."""
    return Table(leaderboard.COLUMNS, leaderboard.table(content["results"]))


def dense_recall(content: dict) -> Table:
    """Pixels of the glyph that is asked for."""
    rows = []
    for label, runs in by_label(content).items():
        ious, told = held_out(runs, "iou"), [mean(held_out(runs, what)) for what in ("right_cell", "hit_rate")]
        rows.append([label, f"{mean(ious):.2f}", f"{min(ious):.2f}", *(f"{share:.2f}" for share in told)])
    return Table(["router", "mean IoU", "worst seed", "right cell", "reverse hit rate"], rows)


def dense_recall_boxes(content: dict) -> Table:
    """Its box."""
    rows = []
    for label, runs in by_label(content).items():
        precisions, hits = held_out(runs, "ap"), held_out(runs, "hit_rate")
        rows.append([label, f"{mean(precisions):.2f}", f"{min(precisions):.2f}", f"{mean(hits):.2f}"])
    return Table(["router", "mean AP", "worst seed", "reverse hit rate"], rows)


def nuclei(content: dict) -> Table:
    """A real picture, mean IoU in percent."""
    rows = []
    for label, runs in by_label(content).items():
        ious = [100 * iou for iou in held_out(runs, "iou")]
        rows.append([label, *(f"{iou:.1f}" for iou in ious), f"{mean(ious):.1f}"])
    return Table(["reads by", *seeds_of(content), "mean"], rows)
