"""One measurement: which part, what case, by which way, in which mode; its time, and its peak of memory.

A `Job` is a plain description, so that a fresh process can repeat it: there the peak of memory is this job's alone.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from bra.attention import attend, attend_gathered, attend_in_pieces, attend_masked
from bra.bench.peers import PEERS
from bra.bench.ways import dense_attend, expanded_attend, official_model
from bra.biformer import MODELS, BiFormer
from bra.kernels import attend_flex, attend_fused
from bra.layer import BiLevelRoutingAttention
from bra.measure import median_seconds, seconds

WAYS = {
    "gathered": attend_gathered,
    "masked": attend_masked,
    "pieces": attend_in_pieces,
    "fused": attend_fused,
    "flex": attend_flex,
}
ATTENDS = {"ours": attend, "compiled": attend, "expanded": expanded_attend, "dense": dense_attend}
ATTENDS |= {name: partial(attend, way=way) for name, way in WAYS.items()}
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PUBLISHED = {name[0].upper(): MODELS[name] for name in ("tiny", "small", "base")}  # T, S, B, as the paper says
HEAD = 32  # channels of a head in all published models


class Core(NamedTuple):
    """Sizes of q, k, v and the index: b images, r regions of t tokens, c channels, k regions read."""

    b: int
    r: int
    t: int
    c: int
    k: int


class Layer(NamedTuple):
    """One layer on a map of side x side tokens with c channels, grid x grid regions, k of them read."""

    b: int
    side: int
    c: int
    grid: int
    k: int


class Model(NamedTuple):
    """A whole model on square images of `size` pixels, with grid x grid regions."""

    name: str
    b: int
    size: int
    grid: int


Part = Core | Layer | Model
Mode = Literal["train", "inference"]


@dataclass(frozen=True)
class Job:
    """What to run.

    way: ours, compiled, one of WAYS, expanded, dense, official, or a peer. precision: of the core's tensors; in layers
    and models, of autocast. official: the clone, for that way.
    """

    case: Part
    way: str
    mode: Mode
    device: str = "cpu"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    official: Path | None = None

    def prepare(self) -> Callable[[], None]:
        """Make the tensors and modules; the function returned takes one step."""
        make = {"Core": core_step, "Layer": layer_step, "Model": model_step}[type(self.case).__name__]
        torch.manual_seed(0)
        step, dtype = make(self, torch.device(self.device)), PRECISIONS[self.precision]
        lower = self.precision != "fp32" and not isinstance(self.case, Core)

        def run():
            with torch.autocast(torch.device(self.device).type, dtype, enabled=lower):
                step()

        return run


def core_step(job: Job, device: torch.device) -> Callable[[], None]:
    """Attention for a random index, every region reading k different ones."""
    b, r, t, c, k = job.case
    train, form = job.mode == "train", {"device": device, "dtype": PRECISIONS[job.precision]}
    q, key, v = (torch.randn(b, r, t, c, requires_grad=train, **form) for _ in range(3))
    index = torch.rand(b, r, r, device=device).argsort(dim=-1)[..., :k]
    attend, grad = ATTENDS[job.way], torch.randn(b, r, t, c, **form)

    def step():
        with torch.set_grad_enabled(train):
            out = attend(q, key, v, index, c // HEAD)
        if train:
            torch.autograd.grad(out, (q, key, v), grad)

    return step


def layer_step(job: Job, device: torch.device) -> Callable[[], None]:
    """One routed layer on a random map."""
    b, side, c, grid, k = job.case
    layer = BiLevelRoutingAttention(c, c // HEAD, (grid, grid), k, attend=ATTENDS[job.way])
    return module_step(job, layer, torch.randn(b, side, side, c, device=device, requires_grad=job.mode == "train"))


def model_step(job: Job, device: torch.device) -> Callable[[], None]:
    """A whole model on random images."""
    name, b, size, grid = job.case
    config = replace(PUBLISHED[name], grid=(grid, grid))
    if job.way == "official":
        model = official_model(job.official, config)
    elif job.way in PEERS:
        model = PEERS[job.way].make()
    else:
        model = BiFormer(replace(config, attend=ATTENDS[job.way]))
    return module_step(job, model, torch.randn(b, config.in_channels, size, size, device=device))


def module_step(job: Job, module: torch.nn.Module, x: torch.Tensor) -> Callable[[], None]:
    """Forward; in training also a loss and its backward. No optimiser: it is the same for all."""
    train = job.mode == "train"
    module.to(x.device).train(train)
    run = torch.compile(module, dynamic=False) if job.way == "compiled" else module

    def step():
        module.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(train):
            out = run(x)
        if train:
            out.square().mean().backward()

    return step


def times(jobs: list[Job], repeats: int) -> list[float]:
    """Median seconds of each job, in turns, after a warm-up."""
    steps = {str(i): job.prepare() for i, job in enumerate(jobs)}
    return list(median_seconds(steps, repeats, jobs[0].device).values())


def peak_bytes(job: Job) -> int | None:
    """How much one step needs beyond its weights and inputs, in a process of its own; None where it cannot be told."""
    if torch.device(job.device).type == "cuda":
        torch.cuda.empty_cache()
        step = job.prepare()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    if sys.platform == "win32" or torch.device(job.device).type != "cpu":
        return None
    description = asdict(job) | {"case": [type(job.case).__name__, *job.case], "official": str(job.official or "")}
    script = [sys.executable, "-m", "bra.bench.alone", json.dumps(description)]
    return int(subprocess.run(script, check=True, capture_output=True, text=True).stdout)


def weigh(description: str) -> int:
    """What `peak_bytes` runs in the other process."""
    values = json.loads(description)
    kind, *sizes = values.pop("case")
    case = {"Core": Core, "Layer": Layer, "Model": Model}[kind](*sizes)
    step = Job(**values | {"case": case, "official": Path(values["official"])}).prepare()
    return raised_by(step)


def raised_by(step: Callable[[], None]) -> int:
    """How far a step raises this process's highest resident memory."""
    if (forget := Path("/proc/self/clear_refs")).exists():
        forget.write_text("5")  # Linux: sets the highest memory so far, that of importing, back to the present one
    before = highest_memory()
    step()
    return highest_memory() - before


def highest_memory() -> int:
    """Bytes of resident memory that this process has had at most."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux: there getrusage begins with the parent process's highest memory
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return 1024 * int(line.split()[1])
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def matrix_rate(device: str, side: int = 4096, precision: str = "fp32") -> float:
    """Multiply-adds a second of one large matrix product: what this machine can do at best."""
    a, b = torch.randn(2, side, side, device=device, dtype=PRECISIONS[precision])
    out = a @ b
    return side**3 / statistics.median(seconds(lambda: torch.mm(a, b, out=out), torch.device(device)) for _ in range(7))
