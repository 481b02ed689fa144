"""How fast layers and models are on a GPU, and how much memory they take: ours, and the others beside it."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import product

from bra.bench.gpu.setting import Part, Rows, Setting, attempt, reasons
from bra.bench.jobs import Core, Job, Layer, Mode, Model, matrix_rate, peak_bytes
from bra.measure import kernel_seconds, median_seconds

INSIDE = ("ours", "gathered", "expanded", "dense")
COMPILED = ("ours", "compiled")
MODES: tuple[Mode, ...] = ("inference", "train")


def measure(setting: Setting, about: dict, jobs: list[Job]) -> Rows:
    """A row for each job: seconds a call, in turns; of the kernels alone; peak of memory. Or why there are none."""
    rows, steps = {}, {}
    for job in jobs:
        said = {"mode": job.mode, "precision": job.precision, "way": job.way}
        rows[job.way] = about | job.case._asdict() | said | attempt(partial(first_call, job, steps))
    timed = partial(median_seconds, repeats=setting.sizes.repeats, device=setting.device)
    spent = attempt(partial(timed, steps))
    for way, step in steps.items():  # those that do not fit beside one another are timed one after another
        rows[way] |= {"seconds": spent[way]} if way in spent else attempt(partial(alone, timed, step))
        if isinstance(jobs[0].case, Core):  # a whole model's would be too many to note
            rows[way] |= attempt(partial(kernels, step, setting))
    return list(rows.values())


def first_call(job: Job, steps: dict[str, Callable[[], None]]) -> dict:
    """Put a job's step into `steps`, if it can be taken; the peak of its memory, but of compiling, which needs more."""
    peak = None if job.way == "compiled" or job.device == "cpu" else peak_bytes(job)
    step = job.prepare()
    step()
    steps[job.way] = step
    return {"bytes": peak}


def alone(timed: Callable[[dict], dict[str, float]], step: Callable[[], None]) -> dict:
    """The time of one step."""
    return {"seconds": timed({"": step})[""]}


def kernels(step: Callable[[], None], setting: Setting) -> dict:
    """The time of a step's kernels."""
    return {"kernel_seconds": kernel_seconds(step, setting.device, setting.sizes.repeats)}


def layer_pieces(setting: Setting) -> dict:
    """Each routed layer at each size, in half precision and in fp32."""
    return module_pieces(setting, "layer", setting.sizes.layers, INSIDE, (setting.half, "fp32"))


def model_pieces(precision: str, compiled: bool, setting: Setting) -> dict:
    """Each model at each size; with a clone, the official code instead of its gather."""
    inside = tuple("official" if way == "expanded" and setting.official else way for way in INSIDE)
    precision = setting.half if precision == "half" else precision
    ways, part = (COMPILED, "compiled") if compiled else (inside, "model")
    return module_pieces(setting, part, setting.sizes.models, ways, (precision,))


def module_pieces(setting: Setting, part: str, cases: Iterable, ways: tuple[str, ...], precisions: Iterable) -> dict:
    """One for each case, mode and precision."""
    found = {}
    for case, mode, precision in product(cases, MODES, precisions):
        jobs = [Job(case, way, mode, setting.device, precision, setting.official) for way in ways]
        name = whole_name(case._asdict() | {"mode": mode, "precision": precision})
        found[name] = partial(measure_with_rate, setting, {"part": part}, jobs)
    return found


def measure_with_rate(setting: Setting, about: dict, jobs: list[Job]) -> Rows:
    """The same, for models beside the rate of one large matrix product in this precision."""
    if isinstance(jobs[0].case, Model):
        about = about | {"matrix_rate": matrix_rate(setting.device, setting.sizes.matrix, jobs[0].precision)}
    return measure(setting, about, jobs)


def case_name(row: dict) -> str:
    """The sizes of a row of a core, a layer or a model, in words."""
    fields = {"stage": Core, "side": Layer, "name": Model}
    if "stage" in row:
        return f"stage {row['stage']} at {row['size']}"
    kind = next(kind for field, kind in fields.items() if field in row)
    return " ".join(f"{field}{row[field]}" if field != "name" else row["name"] for field in kind._fields)


def whole_name(row: dict) -> str:
    """The case, mode and precision."""
    return f"{case_name(row)}, {row['mode']}, {row['precision']}"


def spent(row: dict) -> float:
    """The seconds that count: of the kernels, where they are known."""
    return row.get("kernel_seconds") or row["seconds"]


def by_case(rows: Rows) -> dict[str, dict[str, dict]]:
    """The rows that hold a time: by case, then by way."""
    found = defaultdict(dict)
    for row in rows:
        if "seconds" in row:
            found[whole_name(row)][row["way"]] = row
    return found


def module_verdicts(setting: Setting, rows: Rows) -> list[str]:
    """Ours, and how many times its time and memory the others take."""
    found = []
    for case, ways in by_case(rows).items():
        if "ours" not in ways:
            continue
        ours, told = ways["ours"], []
        for way, row in ways.items():
            memory = f", {row['bytes'] / ours['bytes']:.2f}x the memory" if row["bytes"] and ours["bytes"] else ""
            if row is not ours:
                told.append(f"{way} {row['seconds'] / ours['seconds']:.2f}x the time{memory}")
        size = f", {ours['bytes'] / 2**20:.0f} MB" if ours["bytes"] else ""
        found.append(f"{case}: ours {1e3 * ours['seconds']:.2f} ms{size}; {'; '.join(told)}")
    return found + reasons(rows, whole_name)


SPEED = [
    Part("layer", layer_pieces, module_verdicts),
    Part("models", partial(model_pieces, "half", False), module_verdicts),
    Part("models-fp32", partial(model_pieces, "fp32", False), module_verdicts),
    Part("compiled", partial(model_pieces, "half", True), module_verdicts),
    Part("compiled-fp32", partial(model_pieces, "fp32", True), module_verdicts),
]
