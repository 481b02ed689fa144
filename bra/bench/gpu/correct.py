"""Is every way of `attend` right on this GPU? Outputs and gradients against float64, beside those of plain PyTorch."""

from functools import partial

import torch
from torch import Tensor

from bra.attention import attend, attend_gathered
from bra.bench.gpu.setting import Part, Rows, Setting, attempt, reasons
from bra.bench.jobs import HEAD, PRECISIONS, WAYS, Core

PLAIN, MOST = "gathered", 2  # times the error of plain PyTorch, in the same precision
LIMITS = {"fp32": 1e-5, "bf16": 2e-2, "fp16": 3e-3}  # of plain PyTorch itself
VARIANTS = ("full", "padded and read twice")


def pieces(setting: Setting) -> dict:
    """One for each shape, full, and with padded tokens and regions that are read twice."""
    return {
        f"{name}, {variant}": partial(check, setting, name, core, variant)
        for name, core in setting.sizes.checked.items()
        for variant in VARIANTS
    }


def check(setting: Setting, name: str, core: Core, variant: str) -> Rows:
    """The errors of each way in each precision."""
    rows = []
    for precision in setting.precisions:
        tensors, index, valid = draw(core, setting.device, PRECISIONS[precision], variant)
        exact = outcome(attend_gathered, [x.double() for x in tensors], index, valid, True)
        for way, function in WAYS.items():
            differentiable = way != "flex" or setting.device == "cuda"
            found = attempt(partial(errors, function, tensors, index, valid, differentiable, exact))
            about = {"part": "correct", "shape": name, "variant": variant, **core._asdict(), "precision": precision}
            rows.append(about | {"way": way} | found)
    return rows


def draw(core: Core, device: str, dtype: torch.dtype, variant: str) -> tuple[list[Tensor], Tensor, Tensor | None]:
    """q, k, v and the gradient of the output; who reads whom; which tokens are real.

    In the second variant one region is all padding, and all that another reads; and every region reads one twice.
    """
    b, r, t, c, k = core
    draw = torch.Generator().manual_seed(0)
    tensors = torch.randn(4, b, r, t, c, generator=draw).to(device, dtype).unbind(0)
    index = torch.rand(b, r, r, generator=draw).argsort(dim=-1)[..., :k]
    if variant == VARIANTS[0]:
        return list(tensors), index.to(device), None
    valid = torch.rand(r, t, generator=draw) < 0.7
    valid[0], valid[1, 0] = False, True
    index[:, :, -1] = index[:, :, 0]
    index[:, 2] = 0
    return list(tensors), index.to(device), valid.to(device)


def outcome(way, tensors: list[Tensor], index: Tensor, valid: Tensor | None, differentiable: bool) -> dict[str, Tensor]:
    """The output, and the gradients of q, k and v."""
    *parts, grad = tensors
    parts = [x.detach().requires_grad_(differentiable) for x in parts]
    with torch.set_grad_enabled(differentiable):
        out = attend(*parts, index, grad.shape[-1] // HEAD, valid=valid, way=way)
    gradients = torch.autograd.grad(out, parts, grad) if differentiable else ()
    return {"output": out.detach()} | {f"gradient of {x}": g for x, g in zip("qkv", gradients, strict=False)}


def errors(way, tensors, index, valid, differentiable, exact: dict[str, Tensor]) -> dict:
    """Norms of what is wrong, relative to the norm of what is right."""
    found = outcome(way, tensors, index, valid, differentiable)
    return {
        "errors": {what: ((x.double() - exact[what]).norm() / exact[what].norm()).item() for what, x in found.items()}
    }


def place(row: dict) -> str:
    """Where an error was met."""
    return f"{row['shape']}, {row['variant']}, {row['precision']}"


def verdicts(setting: Setting, rows: Rows) -> list[str]:
    """Which ways are right, and how far the worst is from plain PyTorch."""
    measured = [row for row in rows if "errors" in row]
    plain = {place(row): row["errors"] for row in measured if row["way"] == PLAIN}
    found = []
    for way in dict.fromkeys(row["way"] for row in measured):
        if way == PLAIN:
            found += plain_verdicts(plain)
            continue
        ratios = [  # NaN, which compares with nothing, is the worst
            (ratio if ratio == ratio else torch.inf, row["precision"], f"{what}, {place(row)}")
            for row in measured
            if row["way"] == way and place(row) in plain
            for what, error in row["errors"].items()
            for ratio in [error / plain[place(row)][what] if plain[place(row)][what] else torch.inf * error]
        ]
        found.append(verdict(way, ratios))
    return found + reasons(rows, place)


def verdict(way: str, ratios: list[tuple[float, str, str]]) -> str:
    """What (times plain PyTorch's error, precision, where) of all cases say about one way."""
    if not ratios:
        return f"{way} cannot be judged: plain PyTorch was not measured beside it"
    worst, _, where = max(ratios)
    wrong = dict.fromkeys(precision for ratio, precision, _ in ratios if ratio > MOST)
    precisions = ", ".join(wrong or dict.fromkeys(precision for _, precision, _ in ratios))
    return (
        f"{way} is {'WRONG' if wrong else 'right'} in {precisions}: worst error {worst:.2f}x plain PyTorch's ({where})"
    )


def plain_verdicts(plain: dict[str, dict[str, float]]) -> list[str]:
    """Whether plain PyTorch itself is as exact as its precision allows: the others are judged by it."""
    found = []
    for precision, limit in LIMITS.items():
        own = [error for where, errors in plain.items() if where.endswith(precision) for error in errors.values()]
        if own:
            right = all(error < limit for error in own)
            verdict = "right" if right else "WRONG"
            found.append(f"{PLAIN}, plain PyTorch, is {verdict} in {precision}: worst error {max(own):.1e}")
    return found


CORRECT = Part("correct", pieces, verdicts)
