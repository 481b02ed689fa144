"""Tables of time and memory: measured on a CPU, predicted for GPUs."""

from collections.abc import Callable

from .reading import Table

STAGES = {64: 1, 128: 2, 256: 3}  # the routed stages of BiFormer-T by their channels
MIB = 2**20
PEERS = {"ours": "BiFormer-S, ours", "timm Swin-T": "Swin-T, timm", "birder BiFormer-S": "BiFormer-S, birder"}


def measured_ways(content: dict, **wanted) -> list[dict[str, dict]]:
    """The rows of each case side by side, by their way; only cases that have what is wanted."""
    cases = {}
    for row in content["rows"]:
        if all(row[key] == value for key, value in wanted.items()):
            case = tuple(
                (key, row.get(key)) for key in ("b", "r", "t", "c", "k", "side", "grid", "name", "size", "mode")
            )
            cases.setdefault(case, {})[row["way"]] = row
    return list(cases.values())


def bench_models(content: dict) -> Table:
    """Whole models beside the official code, in seconds."""
    rows = []
    for ways in measured_ways(content, part="model"):
        ours, theirs = ways["ours"], ways["official"]
        case = [ours["name"], f"{ours['b']}", f"{ours['size']}", "{grid} x {grid}".format(**ours), ours["mode"]]
        ratios = [theirs[what] / ours[what] for what in ("seconds", "bytes")]
        rows.append(
            [*case, *(f"{way['seconds']:.2f}" for way in (theirs, ours)), *(f"{ratio:.1f}" for ratio in ratios)]
        )
    return Table(["BiFormer", "batch", "pixels", "grid", "step", "official", "ours", "faster", "smaller"], rows, keys=5)


def bench_others(content: dict) -> Table:
    """The same models compiled, and with dense attention in the place of routing, in seconds."""
    rows = []
    for ways in measured_ways(content, part="model"):
        ours = ways["ours"]
        case = [ours["name"], f"{ours['b']}", f"{ours['size']}", ours["mode"]]
        told = (f"{ways[way]['seconds']:.2f}" if way in ways else "-" for way in ("ours", "compiled", "dense"))
        rows.append([*case, *told])
    return Table(["BiFormer", "batch", "pixels", "step", "ours", "ours, compiled", "dense attention"], rows, keys=4)


def pixels_of(layer: dict) -> int:
    """The side of the image: a token of stage 1 is 4 pixels wide, and channels double with every stage."""
    return layer["side"] * layer["c"] // 16


def bench_layers(mode: str) -> Callable[[dict], Table]:
    """One layer, by the three ways to compute it."""
    ways = ("expanded", "dense", "ours")

    def table(content: dict) -> Table:
        rows = []
        for found in measured_ways(content, part="layer", mode=mode):
            ours = found["ours"]
            tokens = "{side} x {side}".format(**ours)
            case = [f"{pixels_of(ours)}", f"{STAGES[ours['c']]}", tokens, f"{ours['b']}", f"{ours['k']}"]
            told = (found[way][what] / unit for what, unit in (("seconds", 1e-3), ("bytes", MIB)) for way in ways)
            rows.append([*case, *(f"{value:.0f}" for value in told)])
        measured = [f"{unit}: {way}" for unit in ("ms", "MiB") for way in ways]
        return Table(["pixels", "stage", "tokens", "images", "k", *measured], rows, keys=5)

    return table


def bench_attention(content: dict) -> Table:
    """Attention without its layer, one training step."""
    ways, rows = ("expanded", "dense", "ours"), []
    for found in measured_ways(content, part="core"):
        told = [found[way][what] / unit for what, unit in (("seconds", 1e-3), ("bytes", MIB)) for way in ways]
        rows.append([*(f"{found['ours'][size]}" for size in "brtck"), *(f"{value:.0f}" for value in told)])
    measured = [f"{unit}: {way}" for unit in ("ms", "MiB") for way in ways]
    return Table(["images", "regions", "tokens each", "channels", "k", *measured], rows, keys=5)


def dense_cpu(content: dict) -> Table:
    """Under a head, by who is read; a line where nothing was run."""
    attentions, cases = {"bra": "BRA", "full": "full", "windows": "windows"}, {}
    for row in content["rows"]:
        cases.setdefault((row["host"], row["height"], row["width"], row["mode"]), {})[row["attention"]] = row
    rows = []
    for (host, height, width, mode), found in cases.items():
        seconds = [found[name]["seconds"] for name in attentions]
        peaks = [found[name]["bytes"] for name in attentions]
        told = ["-" if spent is None else f"{spent:.1f}" for spent in seconds]
        told += ["-" if peak is None else f"{peak / MIB:.0f}" for peak in peaks]
        rows.append([host, f"{height}" if height == width else f"{height} x {width}", mode, *told])
    measured = [f"{unit}: {name}" for unit in ("s", "MiB") for name in attentions.values()]
    return Table(["head", "pixels", "step", *measured], rows, keys=3)


def bench_peers(content: dict) -> Table:
    """Beside what one might pick instead."""
    found, rows = {(row["way"], row["mode"]): row for row in content["rows"]}, []
    for way, name in PEERS.items():
        both = [found[way, mode] for mode in ("inference", "train")]
        adds = f"{both[0]['multiply_adds'] / both[0]['b'] / 1e9:.2f} G"
        told = [f"{row['seconds']:.2f}" for row in both] + [f"{row['bytes'] / MIB:.0f}" for row in both]
        rows.append([name, adds, *told])
    return Table(["model", "multiply-adds", "s: inference", "s: train", "MiB: inference", "MiB: train"], rows)


def profile_of(content: dict, way: str) -> dict[str, float]:
    """Seconds of a training step on two threads, by what they are for."""
    return {row["group"]: row["seconds"] for row in content["rows"] if (row["way"], row["threads"]) == (way, 2)}


def bench_profile(content: dict) -> Table:
    """Where a training step goes."""
    swin = profile_of(content, "timm Swin-T")
    rows = []
    for group, seconds in profile_of(content, "ours").items():
        theirs = swin.get(group, 0)
        rows.append([group, f"{seconds:.2f}", f"{theirs:.2f}", f"{seconds - theirs:+.2f}"])
    return Table(["part of the step", "BiFormer-S, ours", "Swin-T", "more than Swin-T"], rows)


def kernels_predicted(mode: str) -> Callable[[dict], Table]:
    """Microseconds of attention alone on four GPUs, the fastest way in bold."""

    def table(content: dict) -> Table:
        rows = []
        ways = list(dict.fromkeys(row["way"] for row in content["rows"]))
        for case, seconds in predicted_cases(content, mode).items():
            least = min(seconds.values())
            told = {way: f"{1e6 * s:.0f}" for way, s in seconds.items()}
            rows.append(
                [*map(str, case), *(f"**{told[way]}**" if seconds[way] == least else told[way] for way in ways)]
            )
        return Table(["GPU", "pixels", "stage", "images", *ways], rows, keys=4)

    return table


def predicted_cases(content: dict, mode: str) -> dict[tuple, dict[str, float]]:
    """The seconds of every way, for each (GPU, pixels, stage, images)."""
    cases = {}
    for row in content["rows"]:
        if row["mode"] == mode:
            cases.setdefault(tuple(row[key] for key in ("gpu", "size", "stage", "b")), {})[row["way"]] = row["seconds"]
    return cases


def classroom(content: dict) -> Table:
    """What each notebook takes of a machine."""
    rows = [[row["notebook"], f"{row['seconds']:.0f}", f"{row['bytes'] / MIB:.0f}"] for row in content["notebooks"]]
    return Table(["notebook", "seconds", "memory, MiB"], rows)
