"""Numbers for sentences: a cell of a table, written `TABLE > row > column`, or one of the PHRASES."""

from itertools import product
from pathlib import Path

from .learnt import held_out
from .reading import RESULTS, by_label, mean, read
from .speed import STAGES, measured_ways, pixels_of, predicted_cases, profile_of
from .tables import table

BLIND = ("local", "axial", "dilated", "crossed", "random", "random-once")  # tables that do not look


def best_blind(content: dict) -> str:
    """The highest mean accuracy of a table that does not look."""
    found = by_label(content)
    return f"{max(mean(held_out(found[name], 'accuracy')) for name in BLIND):.0%}"


def best_blind_run(content: dict) -> str:
    """The highest accuracy of any run with such a table."""
    found = by_label(content)
    return f"{max(max(held_out(found[name], 'accuracy')) for name in BLIND):.0%}"


def lucky_seeds(content: dict) -> str:
    """How many networks that began with an independent W_k hit no more often than half the time."""
    hits = held_out(by_label(content)["top-4, independent"], "hit_rate")
    return f"{sum(hit < 0.5 for hit in hits)} of {len(hits)}"


def behind_tables(content: dict) -> str:
    """By how many points routing by content ends behind tables of the same cost, seed by seed."""
    found = {label: held_out(runs, "accuracy") for label, runs in by_label(content).items()}
    gaps = [
        100 * (table - routed)
        for ours, theirs in product(("top-4", "top-4, independent"), ("local", "random"))
        for routed, table in zip(found[ours], found[theirs], strict=True)
    ]
    return f"{min(gaps):.1f} to {max(gaps):.1f}"


def best_blind_iou(content: dict) -> str:
    """The highest mean IoU of a table that does not look."""
    return f"{max(mean(held_out(runs, 'iou')) for name, runs in by_label(content).items() if name in BLIND):.2f}"


def behind_others(content: dict) -> str:
    """By how many points of mean IoU content routing ends behind each of the others, in the mean of the seeds."""
    means = {label: 100 * mean(held_out(runs, "iou")) for label, runs in by_label(content).items()}
    gaps = [other - means["top-4"] for label, other in means.items() if label != "top-4"]
    return f"{min(gaps):.1f} to {max(gaps):.1f}"


def range_of(what: str, mode: str):
    """From how many to how many times the official code takes what our models take."""

    def told(content: dict) -> str:
        ways = measured_ways(content, part="model", mode=mode)
        ratios = [way["official"][what] / way["ours"][what] for way in ways]
        return f"{min(ratios):.1f} to {max(ratios):.1f}"

    return told


def faster_than_dense(mode: str):
    """How many times faster than dense attention a layer of stage 1 is, image by image size."""

    def told(content: dict) -> str:
        layers = [way for way in measured_ways(content, part="layer", mode=mode) if STAGES[way["ours"]["c"]] == 1]
        layers.sort(key=lambda way: pixels_of(way["ours"]))
        *first, last = (f"{way['dense']['seconds'] / way['ours']['seconds']:.0f}" for way in layers)
        return f"{', '.join(first)} and {last}"

    return told


def saved_by_dense(content: dict) -> str:
    """How much less memory dense attention takes at the most, in percent."""
    least = min(way["dense"]["bytes"] / way["ours"]["bytes"] for way in measured_ways(content, part="layer"))
    return f"{1 - least:.0%}"


def of_ours(peer: str, mode: str, what: str):
    """What a peer takes, as a share of what ours takes."""

    def told(content: dict) -> str:
        found = {row["way"]: row[what] for row in content["rows"] if row["mode"] == mode}
        return f"{found[peer] / found['ours']:.2f}"

    return told


def more_attention(content: dict) -> str:
    """How many times the seconds of Swin-T's attention ours takes."""
    return f"{profile_of(content, 'ours')['attention'] / profile_of(content, 'timm Swin-T')['attention']:.1f}"


def wins(way: str, gpu: str, mode: str = "train"):
    """In how many cases of a GPU a way is predicted to be the fastest."""

    def told(content: dict) -> str:
        cases = [seconds for case, seconds in predicted_cases(content, mode).items() if case[0] == gpu]
        return f"{sum(min(seconds, key=seconds.get) == way for seconds in cases)} of {len(cases)}"

    return told


def assumed(share: str):
    """Which share of a GPU's rate a kernel is taken to reach."""
    return lambda content: f"{content['assumed']['shares'][share]:.0%}"


def budget(content: dict) -> str:
    """How much an entry may cost, top-k's cost being 1."""
    return f"{content['results'][0]['rules']['budget']:g}"


def seeds_on(entry: str, board: str):
    """The worst and the best seed of an entry on one board, in percent."""

    def told(content: dict) -> str:
        (result,) = (result for result in content["results"] if result["entry"] == entry)
        reached = [100 * run["accuracy"] for run in result["runs"] if run["board"] == board]
        return f"{min(reached):.1f} to {max(reached):.1f}"

    return told


def gigabytes(part: str):
    """What a room downloads, or installs."""
    return lambda content: f"{content[part]['bytes'] / 1e9:.1f} GB"


PHRASES = {
    "invent budget": budget,
    "invent soft independent": seeds_on("soft", "independent"),
    "recall_routers best blind": best_blind,
    "recall_routers best blind run": best_blind_run,
    "recall_routers independent by luck": lucky_seeds,
    "fashion_mnist behind": behind_tables,
    "dense_recall best blind": best_blind_iou,
    "nuclei behind": behind_others,
    "bench_all_cpu faster inference": range_of("seconds", "inference"),
    "bench_all_cpu faster train": range_of("seconds", "train"),
    "bench_all_cpu smaller train": range_of("bytes", "train"),
    "bench_all_cpu dense inference": faster_than_dense("inference"),
    "bench_all_cpu dense train": faster_than_dense("train"),
    "bench_all_cpu dense memory": saved_by_dense,
    "bench_peers_cpu swin train seconds": of_ours("timm Swin-T", "train", "seconds"),
    "bench_peers_cpu swin train memory": of_ours("timm Swin-T", "train", "bytes"),
    "bench_peers_cpu swin inference seconds": of_ours("timm Swin-T", "inference", "seconds"),
    "bench_peers_cpu swin inference memory": of_ours("timm Swin-T", "inference", "bytes"),
    "bench_peers_cpu birder train seconds": of_ours("birder BiFormer-S", "train", "seconds"),
    "bench_profile_cpu attention": more_attention,
    "kernels_predicted fused H100": wins("fused", "H100"),
    "kernels_predicted dense H100": wins("dense", "H100"),
    "kernels_predicted fused T4": wins("fused", "T4"),
    "kernels_predicted memory share": assumed("memory"),
    "kernels_predicted fused share": assumed("products of fused"),
    "classroom wheels": gigabytes("wheels"),
    "classroom install": gigabytes("install"),
}


def phrase(name: str, folder: Path = RESULTS) -> str:
    """A number of a result, as it is told. Raises ValueError if there is none of this name."""
    if ">" in name:
        which, row, column = (part.strip() for part in name.split(">"))
        return table(which, folder).cell(row, column)
    if name not in PHRASES:
        raise ValueError(f"no phrase {name!r}: 'TABLE > row > column', or one of {', '.join(PHRASES)}")
    return PHRASES[name](read(name.split()[0], folder))
