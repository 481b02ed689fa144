import argparse
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path

import golden_inputs
import numpy as np
import pytest
import torch

import bra
from bra import official
from bra.data.recall import Recall
from bra.data.recall_where import RecallBoxes
from bra.dense import Backbone, PixelHead, Segmenter
from bra.files import tensors_to_bytes
from bra.train.tasks import Boxes

GOLDEN = Path(__file__).parent / "support" / "golden"
MODELS = {"tiny": bra.biformer_tiny, "small": bra.biformer_small, "base": bra.biformer_base}


def state_dict(name):
    """What the official models of tests/support/golden hold."""
    entries = json.loads((GOLDEN / f"biformer_{name}.json").read_text())
    return {key: torch.from_numpy(np.asarray(golden_inputs.entry(key, shape))) for key, shape in entries}


@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_gradients_equal_the_official_codes_in_float64(name):
    golden, weights = np.load(GOLDEN / f"biformer_{name}.npz"), state_dict(name)
    model = MODELS[name]().double().eval()
    model.load_state_dict(official.convert(weights))
    images = torch.from_numpy(golden_inputs.images()).double().requires_grad_()
    maps = model.pyramid(images)
    for i, stage in enumerate(maps):
        np.testing.assert_allclose(stage.detach().mean(dim=(2, 3)), golden[f"stage{i}_mean"], rtol=0, atol=1e-9)
        np.testing.assert_allclose(stage.detach()[:, :, :2, :2], golden[f"stage{i}_corner"], rtol=0, atol=1e-9)
    logits = model.head(model.norm(maps[-1]).mean(dim=(2, 3)))
    np.testing.assert_allclose(logits.detach(), golden["logits"], rtol=0, atol=1e-9)
    (logits * torch.from_numpy(golden_inputs.output_weights())).sum().backward()
    expected = golden["image_gradient"]
    np.testing.assert_allclose(images.grad[:, :, 5::16, 3::16], expected, rtol=0, atol=1e-9 * np.abs(expected).max())
    parameters = dict(model.named_parameters())
    names = [ours for ours in official.convert(weights) if ours in parameters]
    lengths = [parameters[ours].grad.norm().item() for ours in names]
    np.testing.assert_allclose(lengths, golden["parameter_gradient_norms"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_official_codes_in_float32(name):
    golden, model = np.load(GOLDEN / f"biformer_{name}.npz")["logits"], MODELS[name]().eval()
    model.load_state_dict(official.convert(state_dict(name)))
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_inputs.images()))
    assert np.abs(logits.numpy() - golden).max() < 1e-5 * golden.std()


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda model: setattr(layer(model), "scale", 32**-0.5), 0.02),
        (lambda model: setattr(model.stages[3][0].attention, "heads", 16), 0.01),
        (lambda model: setattr(layer(model).router, "k", 3), 0.001),
        (lambda model: setattr(model.stages[1][1].mlp, "1", torch.nn.ReLU()), 0.1),
        (lambda model: setattr(model.stages[0][1].norm1, "eps", 1e-1), 0.01),
    ],
    ids=["head's scale", "16 heads", "k = 3", "ReLU", "another epsilon"],
)
def test_the_recorded_logits_tell_these_models_apart(change, least):
    golden, model = np.load(GOLDEN / "biformer_tiny.npz")["logits"], bra.biformer_tiny().eval()
    model.load_state_dict(official.convert(state_dict("tiny")))
    change(model)
    with torch.no_grad():
        logits = model(torch.from_numpy(golden_inputs.images()))
    assert np.abs(logits.numpy() - golden).max() > least * golden.std()


def layer(model):
    """A routed layer of stage 1, where 49 regions read 4."""
    return model.stages[1][0].attention


def test_every_entry_gets_a_place_of_its_own():
    for name, make in MODELS.items():
        ours = official.convert(state_dict(name))
        with torch.device("meta"):
            expected = {key: value.shape for key, value in make().state_dict().items()}
        assert {key: value.shape for key, value in ours.items()} == expected


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (lambda d: d.pop("stages.2.3.attn.wo.bias"), "missing stages.2.3.attn.wo.bias$"),
        (lambda d: d.pop("stages.3.1.attn.proj.weight"), "missing stages.3.1.attn.proj.weight$"),
        (lambda d: d.pop("downsample_layers.1.0.weight"), "missing downsample_layers.1.0.weight$"),
        (lambda d: d.pop("head.weight"), "missing head.weight$"),
        (lambda d: d.update({"stages.0.0.attn.router.emb.weight": 0}), "unexpected stages.0.0.attn.router.emb.weight"),
        (lambda d: d.update({f"blocks.{i}.x": 0 for i in range(10)}), "unexpected blocks.7.x and 2 more"),
        (lambda d: d.update({f"blocks.{i}.x": 0 for i in range(9)}), "unexpected blocks.7.x and 1 more"),
        (lambda d: d.update({f"blocks.{i}.x": 0 for i in range(8)}), "unexpected blocks.7.x$"),
    ],
)
def test_entries_that_do_not_belong_are_named(spoil, complaint):
    weights = state_dict("tiny")
    spoil(weights)
    with pytest.raises(ValueError, match=complaint):
        official.convert(weights)


def save(path, weights):
    if path.suffix == ".safetensors":
        path.write_bytes(tensors_to_bytes(weights))
    else:  # as the official training script saves
        torch.save({"model": weights, "epoch": 299, "args": argparse.Namespace(lr=1e-3, model="biformer_tiny")}, path)


@pytest.mark.parametrize("file", ["published.pth", "weights.safetensors"])
def test_loads_a_published_file(tmp_path, file):
    weights = state_dict("tiny")
    save(tmp_path / file, weights)
    model = official.load(bra.biformer_tiny(), tmp_path / file)
    for name, value in official.convert(weights).items():
        assert torch.equal(model.state_dict()[name], value), name


def test_loads_what_parallel_training_saved(tmp_path):
    save(tmp_path / "parallel.pth", {f"module.{name}": value for name, value in state_dict("tiny").items()})
    model = official.load(bra.biformer_tiny(), tmp_path / "parallel.pth")
    assert torch.equal(model.norm.weight, state_dict("tiny")["norm.weight"])


def test_loads_a_bare_state_dict_and_our_own_names(tmp_path):
    ours = official.convert(state_dict("tiny"))
    torch.save(ours, tmp_path / "bare.pth")
    model = official.load(bra.biformer_tiny(), str(tmp_path / "bare.pth"))
    assert torch.equal(model.head.weight, ours["head.weight"])


def test_another_number_of_classes_drops_the_head_and_says_so(tmp_path):
    save(tmp_path / "published.pth", state_dict("tiny"))
    model = bra.biformer_tiny(num_classes=7)
    before = model.head.weight.clone()
    with pytest.warns(UserWarning, match="classifies 1000 classes and the model 7: its head is left out"):
        official.load(model, tmp_path / "published.pth")
    assert torch.equal(model.head.weight, before)
    assert torch.equal(model.norm.weight, state_dict("tiny")["norm.weight"])
    headless = bra.biformer_tiny(num_classes=0)
    with pytest.warns(UserWarning, match="and the model 0"):
        official.load(headless, tmp_path / "published.pth")


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (
            lambda d: d["norm.bias"][-1:].fill_(torch.nan),
            r"published\.pth holds numbers that are not finite in torch.float32, in norm.bias",
        ),
        (
            lambda d: d.update({"norm.bias": torch.full((512,), 1e300, dtype=torch.float64)}),
            "not finite in torch.float32",
        ),
        (
            lambda d: d["stages.1.0.mlp.0.bias"].fill_(torch.inf),
            "not finite in torch.float32, in stages.1.0.mlp.0.bias",
        ),
        (lambda d: d.update({"norm.bias": torch.zeros(512, dtype=torch.complex64)}), "norm.bias is no plain tensor"),
        (lambda d: d.update({"norm.bias": torch.zeros(512).to_sparse()}), "norm.bias is no plain tensor"),
        (lambda d: d.update({"norm.bias": torch.zeros(512, device="meta")}), "norm.bias is no plain tensor"),
        (lambda d: d.update({"stages.0.0.attn.proj.bias": torch.zeros(64)}), "unexpected stages.0.0.attn.wo.bias"),
        (lambda d: d.update({"norm.bias": torch.zeros(3)}), r"norm.bias is \(3,\), not \(512,\)"),
        (lambda d: d.pop("norm.bias"), "missing norm.bias"),
        (lambda d: d.update({"extra.bias": torch.zeros(3)}), "unexpected extra.bias"),
        (lambda d: d.update({"module.norm.bias": torch.zeros(512)}), "unexpected module.norm.bias"),
        (lambda d: [d.pop(k) for k in list(d) if k.startswith("stages.2.7.")], "missing stages.2.7.attention.lce"),
        (lambda d: d.update({3: torch.zeros(3)}), 'holds no state dict, neither itself nor under "model"'),
        (lambda d: d.update({"norm.bias": "text"}), 'holds no state dict, neither itself nor under "model"'),
    ],
)
def test_a_file_that_does_not_fit_is_refused_and_the_model_untouched(tmp_path, spoil, complaint):
    weights, model = state_dict("tiny"), bra.biformer_tiny()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    spoil(weights)
    save(tmp_path / "published.pth", weights)
    with pytest.raises(ValueError, match=complaint):
        official.load(model, tmp_path / "published.pth")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_nothing_in_a_file_is_executed(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = tmp_path / "published.pth"
    torch.save({"model": state_dict("tiny"), "args": Bomb()}, path)
    with pytest.raises(
        ValueError, match=r"published\.pth is damaged, or holds more .* asks for posix.mkdir, which was not"
    ):
        official.load(bra.biformer_tiny(), path)
    path.write_bytes(pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(ValueError, match=r"published\.pth is damaged, or holds more"):
        official.load(bra.biformer_tiny(), path)
    assert not (tmp_path / "exploded").exists()


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "published.pth"
    save(path, {"norm.bias": torch.zeros(100)})
    for content in (b"", path.read_bytes()[:-50], b"<html>not found</html>", b"x"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"published\.pth is damaged"):
            official.load(bra.biformer_tiny(), path)
    whole = tensors_to_bytes({"norm.bias": torch.zeros(100)})
    (tmp_path / "weights.safetensors").write_bytes(whole[:-50])
    with pytest.raises(ValueError, match=r"weights\.safetensors is not a whole safetensors file"):
        official.load(bra.biformer_tiny(), tmp_path / "weights.safetensors")
    torch.save({"state": {"a": torch.zeros(1)}, 3: 4}, path)
    with pytest.raises(ValueError, match='holds no state dict, neither itself nor under "model", but state, 3'):
        official.load(bra.biformer_tiny(), path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(ValueError, match=r'holds no state dict, neither itself nor under "model"$'):
        official.load(bra.biformer_tiny(), path)
    with pytest.raises(FileNotFoundError):
        official.load(bra.biformer_tiny(), tmp_path / "nowhere.pth")


SMALL = bra.BiFormerConfig(
    stem=(4, 8), stages=(bra.Stage(8, 1, heads=2, k=2), bra.Stage(12, 2, heads=3, k=bra.FULL)), grid=(2, 3)
)


def around(kind, model):
    """A network on the stages of a model."""
    if kind == "classifier":
        return model
    backbone = Backbone(model)
    if kind == "segmenter":
        return Segmenter(backbone, PixelHead(backbone.channels, backbone.reduction, 5))
    level = torch.nn.Module()
    level.backbone = backbone
    detector = torch.nn.Module()
    detector.backbone, detector.head = level, torch.nn.Linear(2, 3)
    network = torch.nn.Module()
    network.detector = detector
    return network


def stages_of(model):
    return {n: v.clone() for n, v in model.state_dict().items() if n.startswith(("downsample", "stages"))}


def test_a_network_for_detection_has_its_stages_where_the_test_puts_them():
    for head in ("token", "retinanet"):
        made = Boxes(RecallBoxes(Recall())).network(bra.BiFormer(SMALL), head, 32)
        assert "detector.backbone.backbone.stages.0.0.norm1.weight" in made.state_dict()


@pytest.mark.parametrize("kind", ["classifier", "segmenter", "detector", "parallel"])
def test_stages_come_from_our_own_networks(kind, tmp_path):
    source = bra.BiFormer(SMALL)
    expected = stages_of(source)
    weights = around("segmenter" if kind == "parallel" else kind, source).state_dict()
    weights = {f"module.{n}" if kind == "parallel" else n: v for n, v in weights.items()}
    (tmp_path / "model.safetensors").write_bytes(tensors_to_bytes(weights))
    model = bra.BiFormer(SMALL)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    assert official.load_stages(model, tmp_path / "model.safetensors") is model
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name] if name in expected else before[name]), name
    assert any(not torch.equal(before[name], value) for name, value in expected.items())


def test_stages_come_from_a_published_checkpoint_whatever_it_classifies(tmp_path):
    save(tmp_path / "published.pth", state_dict("tiny"))
    model = bra.biformer_tiny(num_classes=7)
    head, norm = model.head.weight.clone(), model.norm.weight.clone()
    official.load_stages(model, tmp_path / "published.pth")
    ours = official.convert(state_dict("tiny"))
    assert all(torch.equal(value, ours[name]) for name, value in stages_of(model).items())
    assert torch.equal(model.head.weight, head) and torch.equal(model.norm.weight, norm)


def test_routing_tables_are_no_weights(tmp_path):
    def of(regions, grid=(2, 3)):
        return bra.BiFormer(replace(SMALL, grid=grid, router=lambda g, k: bra.TableRouter(regions(g, k))))

    def tables(model):
        return {name: value for name, value in model.state_dict().items() if name.endswith("router.table")}

    fixed = of(bra.local_regions)
    for source, target in ((bra.BiFormer(SMALL), fixed), (fixed, bra.BiFormer(SMALL)), (fixed, of(bra.axial_regions))):
        (tmp_path / "model.safetensors").write_bytes(tensors_to_bytes(source.state_dict()))
        own = {name: value.clone() for name, value in tables(target).items()}
        official.load_stages(target, tmp_path / "model.safetensors")
        assert torch.equal(target.stages[0][0].mlp[0].weight, source.stages[0][0].mlp[0].weight)
        assert all(torch.equal(value, own[name]) for name, value in tables(target).items())


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"stages": SMALL.stages[:1]}, "missing stages.1.0.attention"),
        ({"stages": (*SMALL.stages, bra.Stage(16, 1, heads=2, k=bra.FULL))}, "unknown downsample.2"),
        ({"stages": (SMALL.stages[0], bra.Stage(12, 1, heads=3, k=bra.FULL))}, r"missing stages\.1\.1\."),
        ({"stem": (4, 16), "stages": (bra.Stage(16, 1, heads=2, k=2), SMALL.stages[1])}, r"is \(16,\), not \(8,\)"),
    ],
)  # fmt: skip
def test_stages_of_another_size_are_refused_in_one_line_and_the_model_untouched(change, complaint, tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(tensors_to_bytes(around("segmenter", bra.BiFormer(replace(SMALL, **change))).state_dict()))
    model = bra.BiFormer(SMALL)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match=complaint) as refused:
        official.load_stages(model, path)
    assert str(refused.value).startswith(f"{path} does not fit the model: ") and "\n" not in str(refused.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_stages_that_are_not_finite_are_refused_and_what_is_not_taken_may_be(tmp_path):
    weights = bra.BiFormer(SMALL).state_dict()
    weights["head.bias"][0] = torch.nan
    (tmp_path / "a.safetensors").write_bytes(tensors_to_bytes(weights))
    official.load_stages(bra.BiFormer(SMALL), tmp_path / "a.safetensors")
    weights["stages.1.0.mlp.0.bias"][0] = torch.inf
    (tmp_path / "b.safetensors").write_bytes(tensors_to_bytes(weights))
    with pytest.raises(ValueError, match=r"b\.safetensors holds numbers that are not finite .* stages\.1\.0"):
        official.load_stages(bra.BiFormer(SMALL), tmp_path / "b.safetensors")
    with pytest.raises(FileNotFoundError):
        official.load_stages(bra.BiFormer(SMALL), tmp_path / "c.safetensors")
