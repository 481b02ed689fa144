"""What test_biformer and test_dense run in a process of its own, where shape checks are off.

    python tests/support/deployment.py WHAT

compile: `torch.compile(fullgraph=True)`, inference and training. export: `torch.export` with any batch size.
onnx: ONNX, with any batch size and image size. whole: models copied, saved whole, and sent to another process.
graphs_of_backbone: compile and export of a `Backbone`, with and without sizes. parallel_backbone: in two processes.
"""

import copy
import itertools
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnxruntime
import torch

import bra
from bra.attention import attend_gathered, attend_in_pieces, attend_masked
from bra.train.routers import ROUTERS

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


def three_stages():
    """The first stage gathers, the second reads small regions under a mask."""
    return model(bra.Stage(8, 1, 2, k=1), bra.Stage(16, 1, 4, k=3), bra.Stage(24, 1, 8, k=bra.FULL)).eval()


def export():
    eager = three_stages()
    exported = torch.export.export(
        eager, (images(2),), dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}}
    )
    for batch in (1, 2, 5):
        x = images(batch)
        with torch.no_grad():
            torch.testing.assert_close(exported.module()(x), eager(x), rtol=1e-4, atol=1e-4)


def onnx():
    """What README says: exported from a size that the grid divides nowhere, a model runs at every size."""
    eager, dynamic = three_stages(), torch.export.Dim.DYNAMIC
    for height, width, sizes in (
        (*SIZE, [SIZE, (48, 48), (60, 45), (33, 47), (24, 24), (23, 71), (96, 64)]),
        (48, 48, [(48, 48), (24, 24)]),  # padding nowhere: nor does the exported model know how
    ):
        example = torch.randn(2, 3, height, width)
        shapes = {"images": {0: dynamic, 2: dynamic, 3: dynamic}}
        program = torch.onnx.export(eager, (example,), dynamic_shapes=shapes, dynamo=True, verbose=False)
        with tempfile.TemporaryDirectory() as folder:
            program.save(Path(folder) / "biformer.onnx")
            session = onnxruntime.InferenceSession(Path(folder) / "biformer.onnx")
        run = lambda x, session=session: torch.from_numpy(session.run(None, {"images": x.numpy()})[0])  # noqa: E731
        for batch, size in itertools.product((1, 3), sizes):
            x = torch.randn(batch, 3, *size)
            with torch.no_grad():
                torch.testing.assert_close(run(x), eager(x), rtol=1e-3, atol=1e-3)
    try:
        run(torch.randn(1, 3, *SIZE))
    except Exception as error:
        assert "Reshape" in str(error), error
    else:
        raise AssertionError("README says that a model exported from 48 x 48 does not run at other sizes")


def every_kind():
    """Models and layers of every kind, by name: each router, way to attend, start and option."""
    stages = (bra.Stage(8, 2, heads=2, k=1), bra.Stage(16, 1, heads=4, k=bra.FULL))
    config = bra.BiFormerConfig(stem=(8,), stages=stages, grid=(2, 3), num_classes=5)
    kinds = {f"router {name}": replace(config, router=router(0)) for name, router in ROUTERS.items()}
    for way in (attend_gathered, attend_masked, attend_in_pieces):
        kinds[way.__name__] = replace(config, attend=partial(bra.attend, way=way))
    kinds["options"] = replace(config, drop_path=0.5, checkpoint_stages=(0, 1), lce_kernel=0, position_kernel=0)
    kinds["nano"], kinds["no head"] = bra.NANO, replace(config, num_classes=0)
    table = bra.TableRouter(bra.random_regions((2, 3), 2))
    layers = {"BRA2d": bra.BRA2d(3, 1, (2, 3), 2), "a table": bra.BRA2d(3, 3, (2, 3), 2, router=table, scale=0.5)}
    return {name: bra.BiFormer(kind) for name, kind in kinds.items()} | layers


def answers(models, x):
    with torch.no_grad():
        return [model.eval()(x).numpy() for model in models]


def read_answers(path, x):
    return answers(torch.load(path, weights_only=False), x)


def whole():
    models, x = every_kind(), images(2)
    for each in models.values():
        each.train()(x).square().sum().backward()
        with bra.record_routes(each):  # it leaves nothing behind
            each(x)
    expected = answers(models.values(), x)
    copies = {name: copy.deepcopy(each) for name, each in models.items()}
    spawn = torch.multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1, spawn) as other:
        path = Path(folder) / "models.pt"
        torch.save(list(models.values()), path)
        found = {
            "copied": answers(copies.values(), x),
            "sent": other.submit(answers, list(models.values()), x).result(),
            "read": other.submit(read_answers, path, x).result(),
        }
    for how, given in found.items():
        for name, one, right in zip(models, given, expected, strict=True):
            assert one.shape == right.shape and (one == right).all(), f"{name}, {how}, gives something else"
    for value in (value for each in copies.values() for value in each.state_dict().values()):
        value.zero_()
    for name, one, right in zip(models, answers(models.values(), x), expected, strict=True):
        assert (one == right).all(), f"{name} shares numbers with its copy"


def backbone():
    """Images of 37 x 50 pixels are padded to 48 x 72, 2 x 3 regions."""
    return bra.Backbone(three_stages(), region=24).eval()


SIZES = torch.tensor([[37, 21], [13, 50], [37, 50], [1, 9], [29, 31]])


def graphs_of_backbone():
    """The graphs alone, without the C++ code that would be made of them, which takes minutes."""
    eager, any_batch = backbone(), {0: torch.export.Dim("batch", min=1)}
    compiled = torch.compile(eager, fullgraph=True, dynamic=False, backend="aot_eager")
    x = images(2)
    for given in ((x, SIZES[:2]), (x, SIZES[1:3])):
        gradients = []
        for each in (eager, compiled):
            eager.zero_grad()
            maps = each(*given)
            sum(out.square().mean() for out in maps).backward()
            gradients.append([*maps, *(p.grad.clone() for p in eager.parameters())])
        torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
    for given in ((), (SIZES[:2],)):
        shapes = {"images": any_batch} | ({"sizes": any_batch} if given else {})
        exported = torch.export.export(eager, (images(2), *given), dynamic_shapes=shapes)
        for batch in (1, 2, 5):
            x, sizes = images(batch), [SIZES[:batch] for _ in given]
            with torch.no_grad():
                torch.testing.assert_close(exported.module()(x, *sizes), eager(x, *sizes), rtol=1e-4, atol=1e-4)


def parallel_step(rank, folder):
    """One training step of a process: with every parameter used, DDP waits for all, and never in vain."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.set_num_threads(1)
    own = backbone()
    shared = torch.nn.parallel.DistributedDataParallel(own)
    torch.manual_seed(0)
    halves, sizes = images(4).chunk(2), SIZES[:4].chunk(2)
    for _ in range(2):  # a parameter without a gradient is told in the second
        own.zero_grad()
        sum(out.square().mean() for out in shared(halves[rank], sizes[rank])).backward()
    expected = []
    for each, size in zip(halves, sizes, strict=True):
        alone = backbone()
        sum(out.square().mean() for out in alone(each, size)).backward()
        expected.append([p.grad for p in alone.parameters()])
    for (name, parameter), a, b in zip(own.named_parameters(), *expected, strict=True):
        torch.testing.assert_close(parameter.grad, (a + b) / 2, msg=f"{name} has another gradient")
    torch.distributed.destroy_process_group()


def parallel_backbone():
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(parallel_step, (folder,), nprocs=2)


if __name__ == "__main__":
    globals()[sys.argv[1]]()
