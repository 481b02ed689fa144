"""Compile the fused programs for GPUs that are not here. A line of JSON each: matrix units, spills.

A process of its own, in which Triton does not interpret: TRITON_INTERPRET must not be 1.
"""

import json
import re
import subprocess
import tempfile
from itertools import product

import torch
import triton
from triton.backends.compiler import GPUTarget

from bra.kernels import programs
from bra.kernels.fused import plan

NAMES = {torch.float16: "fp16", torch.bfloat16: "bf16", torch.float32: "fp32"}
WHOLE = {"table": "*i32", "readers": "*i64", "starts": "*i64", "valid": "*u8", "lse": "*fp32", "delta": "*fp32"}
SIZES = {"heads": "i32", "c": "i32", "q_stride": "i32", "k_stride": "i32", "v_stride": "i32"}


def compiled(program, dtype, t, n, capability, width=32):
    """One program, compiled for heads of `width` channels and n regions of t tokens."""
    q = torch.empty(2 * t, 2 * width, dtype=dtype)
    table = torch.zeros(2, n, dtype=torch.int32)
    _, settings = plan(q, table, 2, 0.25, None)
    warps = settings.pop("num_warps")
    settings |= {"scale": 0.25} if "scale" in program.arg_names else {}
    constants = {name: settings[name] for name in program.arg_names if name in settings}
    signature = {
        name: "constexpr" if name in constants else WHOLE.get(name) or SIZES.get(name) or f"*{NAMES[dtype]}"
        for name in program.arg_names
    }
    signature["valid"], constants["valid"] = "constexpr", None
    source = triton.compiler.ASTSource(fn=program, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})


def report(kernel):
    """Matrix instructions among what the GPU would run; bytes of registers that did not fit and went to memory."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        told = subprocess.run(
            [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return {"matrix": len(re.findall(r"mma", kernel.asm["ptx"])), "spilled": int(re.search(r"STACK:(\d+)", told)[1])}


if __name__ == "__main__":
    half, whole = torch.float16, torch.float32
    for capability, dtype, t, n in [(75, half, 64, 1), *product((80, 90), (half, whole), (64, 4), (1, 16))]:
        if (t, n) in ((64, 1), (4, 16)):
            for name in ("forward", "backward_queries", "backward_keys"):
                row = {"capability": capability, "dtype": NAMES[dtype], "program": name, "tokens": t}
                print(json.dumps(row | report(compiled(getattr(programs, name), dtype, t, n, capability))), flush=True)
