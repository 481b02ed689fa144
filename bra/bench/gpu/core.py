"""How fast attention alone is on a GPU, by every way, beside what was predicted before anybody measured it."""

from collections import defaultdict
from functools import partial
from statistics import median

from bra.bench.gpu.setting import Part, Rows, Setting, reasons
from bra.bench.gpu.speed import MODES, by_case, measure, spent, whole_name
from bra.bench.jobs import Job

BASE = "gathered"  # the way that the others are held against
WAYS = (BASE, "ours", "masked", "fused", "flex", "dense", "expanded")
NEAR = 1.1  # times the time of the fastest way: as good as it


def core_pieces(setting: Setting) -> dict:
    """The shapes that the predictions are made for; with this GPU's batches, if it is among them."""
    batches = {(row["size"], row["stage"]): row["b"] for row in setting.predicted}
    found = {}
    for (size, stage), core in setting.sizes.cores.items():
        case = core._replace(b=batches.get((size, stage), core.b))
        for mode in MODES:
            about = {"part": "core", "size": size, "stage": stage}
            jobs = [Job(case, way, mode, setting.device, "fp16") for way in WAYS]
            found[f"stage {stage} at {size}, {mode}"] = partial(measure, setting, about, jobs)
    return found


def core_verdicts(setting: Setting, rows: Rows) -> list[str]:
    """Each way against gathering, measured and predicted; whether `attend` takes the fastest."""
    predicted = defaultdict(dict)
    for row in setting.predicted:
        predicted[whole_name(row)][row["way"]] = row["seconds"]
    found, sides, shares = [], defaultdict(list), defaultdict(list)
    for case, ways in by_case(rows).items():
        if BASE not in ways:
            continue
        base, expected, told = spent(ways[BASE]), predicted[case], []
        for way, row in ways.items():
            ratio, guess = spent(row) / base, expected.get(way)
            if guess is not None:
                shares[way].append(spent(row) / guess)
            if way != BASE:
                told.append(f"{way} {ratio:.2f}" + (f" (predicted {guess / expected[BASE]:.2f})" if guess else ""))
            if guess and way != BASE:
                sides[way].append((case, (ratio < 1) == (guess < expected[BASE])))
        found.append(f"{case}: of {BASE}'s {1e6 * base:.0f} us: {', '.join(told)}")
    for way, cases in sides.items():
        wrong = [case for case, right in cases if not right]
        refuted = f"; refuted: {'; '.join(wrong)}" if wrong else ""
        confirmed = len(cases) - len(wrong)
        found.append(f"{way} faster or slower than {BASE}: confirmed in {confirmed} of {len(cases)} cases{refuted}")
    for way, ratios in shares.items():
        found.append(f"{way} takes {median(ratios):.2f} of the predicted time ({min(ratios):.2f} to {max(ratios):.2f})")
    return found + choice_verdicts(rows) + reasons(rows, whole_name)


def choice_verdicts(rows: Rows) -> list[str]:
    """Whether the way that `attend` takes is the fastest of those that compute the same."""
    found, slow = 0, []
    for case, ways in by_case(rows).items():
        same = {way: spent(row) for way, row in ways.items() if way != "dense"}
        if "ours" in same:
            fastest = min(same, key=same.get)
            found += 1
            if same["ours"] > NEAR * same[fastest]:
                slow.append(f"{case}: {fastest} takes {same[fastest] / same['ours']:.2f} of its time")
    if not found:
        return []
    return [f"attend takes the fastest way, or one within 10%, in {found - len(slow)} of {found} cases", *slow]


CORE = Part("core", core_pieces, core_verdicts)
