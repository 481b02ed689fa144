"""How fast is the core op: `python -m bra.bench`.

Measures forward and backward of `bra.attend` against the gather from an expanded tensor, as the official code does
it, in one run and in turns, and writes the medians to book/results/.
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import tyro
from einops import rearrange
from torch import Tensor
from tqdm.auto import tqdm

from bra.attention import attend
from bra.measure import median_seconds
from bra.runs import environment, write_atomically


class Case(NamedTuple):
    """Sizes of one measurement; every head has 32 channels."""

    b: int
    r: int
    t: int
    c: int
    k: int


CASES = [Case(b, r, t, c, k) for b, r in ((8, 49), (1, 256)) for t, c, k in ((64, 64, 1), (16, 128, 4), (4, 256, 16))]


def expanded_attend(q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int) -> Tensor:
    """What `attend` does, by the official code's way: gather from keys and values expanded to (b r r t c).

    Forward, the expanded tensor costs nothing. Backward, its gradient is filled in: r times the memory of the input.
    """
    b, r, t, c = q.shape
    kv = torch.cat([k, v], dim=-1)[:, None].expand(-1, r, -1, -1, -1)
    kv = kv.gather(2, index[..., None, None].expand(-1, -1, -1, t, 2 * c))  # b r k t 2c
    keys, values = (rearrange(x, "b r n t (m d) -> (b r) m (n t) d", m=heads) for x in kv.chunk(2, dim=-1))
    queries = rearrange(q, "b r t (m d) -> (b r) m t d", m=heads)
    weights = ((c // heads) ** -0.5 * queries @ keys.mT).softmax(dim=-1)
    return rearrange(weights @ values, "(b r) m t d -> b r t (m d)", b=b)


def compare(case: Case, repeats: int, device: torch.device) -> dict:
    """Medians of forward and backward of both ways, measured in turns after a warm-up."""
    q, k, v = (torch.randn(case.b, case.r, case.t, case.c, device=device, requires_grad=True) for _ in range(3))
    index = torch.rand(case.b, case.r, case.r, device=device).argsort(dim=-1)[..., : case.k]

    def step(function):
        torch.autograd.grad(function(q, k, v, index, case.c // 32).sum(), (q, k, v))

    ways = {"expanded": expanded_attend, "ours": attend}
    times = median_seconds({name: lambda way=way: step(way) for name, way in ways.items()}, repeats, device)
    medians = {f"{name}_ms": 1000 * median for name, median in times.items()}
    return case._asdict() | medians | {"ratio": medians["expanded_ms"] / medians["ours_ms"]}


def main(device: str = "cpu", repeats: int = 9, seed: int = 0, results: Path = Path("book/results")) -> None:
    """Measure the core op.

    Args:
        device: cpu, cuda, ...
        repeats: Measurements of each way, after a warm-up.
        seed: Seed of the numbers and of the routes.
        results: Folder to write core_op_DEVICE.json to.
    """
    torch.manual_seed(seed)
    rows = [compare(case, repeats, torch.device(device)) for case in tqdm(CASES)]
    print("   b    r   t    c   k   expanded       ours   ratio")
    for row in rows:
        print("{b:4} {r:4} {t:3} {c:4} {k:3} {expanded_ms:7.1f} ms {ours_ms:7.1f} ms {ratio:6.1f}x".format(**row))
    content = {"command": " ".join(["python -m bra.bench", *sys.argv[1:]]), "repeats": repeats, "seed": seed}
    path = results / f"core_op_{device}.json"
    write_atomically(path, json.dumps(content | {"environment": environment(), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench")
