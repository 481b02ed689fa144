"""What test_biformer runs in a process of its own, where shape checks are off.

    python tests/support/deployment.py WHAT

compile: `torch.compile(fullgraph=True)`, inference and training. export: `torch.export` with any batch size, and ONNX.
"""

import sys
import tempfile
from pathlib import Path

import torch

import bra

SIZE = (37, 50)  # padded in every stage


def model(*stages):
    """With weights so large that routing and attention matter."""
    torch.manual_seed(0)
    model = bra.BiFormer(bra.BiFormerConfig(stem=(8,), stages=stages, grid=(2, 3), num_classes=5))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def images(batch):
    return torch.randn(batch, 3, *SIZE)


def compile():
    eager = model(bra.Stage(8, 1, heads=2, k=1))
    compiled = torch.compile(eager, fullgraph=True, dynamic=False)
    eager.eval()
    x = images(2)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), eager(x), rtol=1e-4, atol=1e-4)
    eager.train()
    gradients = []
    for each in (eager, compiled):
        eager.zero_grad()
        each(x).square().sum().backward()
        gradients.append([p.grad.clone() for p in eager.parameters()])
    largest = max(g.abs().max().item() for g in gradients[0])
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5 * largest)


def export():
    import onnxruntime

    # the first stage gathers, the second reads small regions under a mask
    eager = model(bra.Stage(8, 1, 2, k=1), bra.Stage(16, 1, 4, k=3), bra.Stage(24, 1, 8, k=bra.FULL)).eval()
    dynamic = {"images": {0: torch.export.Dim("batch", min=1)}}
    exported = torch.export.export(eager, (images(2),), dynamic_shapes=dynamic)
    program = torch.onnx.export(eager, (images(2),), dynamic_shapes=dynamic, dynamo=True, verbose=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "biformer.onnx"
        program.save(path)
        session = onnxruntime.InferenceSession(path)
    for batch in (1, 2, 5):
        x = images(batch)
        with torch.no_grad():
            logits = eager(x)
        torch.testing.assert_close(exported.module()(x), logits, rtol=1e-4, atol=1e-4)
        (theirs,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        torch.testing.assert_close(torch.from_numpy(theirs), logits, rtol=1e-3, atol=1e-3)


if __name__ == "__main__":
    {"compile": compile, "export": export}[sys.argv[1]]()
