import pytest
import torch

import bra

transformers = pytest.importorskip("transformers", reason="not needed by bra itself")
from bra.dense.auto import BiFormerBackbone, BiFormerBackboneConfig, register_with_transformers  # noqa: E402

CHANGES = {"stem": [4, 8], "stages": [[8, 1, 2, 1], [12, 1, 2, 2], [16, 1, 2, 3], [24, 1, 4, "full"]]}
CONFIG = bra.BiFormerConfig(stem=(4, 8), stages=tuple(bra.Stage(*stage) for stage in CHANGES["stages"]))


@pytest.fixture(autouse=True)
def registered():
    register_with_transformers()
    register_with_transformers()  # again does no harm


def config(**options):
    return BiFormerBackboneConfig(changes=CHANGES, region=32, **options)


def upernet(**options):
    given = {"backbone_config": config(), "use_auxiliary_head": False, "hidden_size": 8, "num_labels": 5}
    return transformers.UperNetForSemanticSegmentation(transformers.UperNetConfig(**given | options))


def require_alike(a, b):
    """Raise AssertionError unless two models have the same weights and answer alike."""
    for (name, x), (other, y) in zip(a.state_dict().items(), b.state_dict().items(), strict=True):
        assert name == other and torch.equal(x, y), f"{name} is another"
    images = torch.randn(2, 3, 53, 71)
    for x, y in zip(a.eval()(images).to_tuple()[0], b.eval()(images).to_tuple()[0], strict=True):
        torch.testing.assert_close(x, y)


def test_it_is_the_backbone_with_the_weights_that_bra_begins_with():
    torch.manual_seed(1)
    found = transformers.AutoBackbone.from_config(config(out_indices=[1, 3]))
    torch.manual_seed(1)
    own = bra.Backbone(bra.BiFormer(CONFIG), region=32, out_indices=(1, 3)).eval()
    assert isinstance(found, BiFormerBackbone)
    assert found.channels == list(own.channels) and found.out_features == ["stage2", "stage4"]
    images = torch.randn(2, 3, 53, 71)
    for a, b in zip(found.eval()(images).feature_maps, own(images), strict=True):
        assert torch.equal(a, b), "transformers overwrites the weights unless _init_weights is empty"


def test_it_comes_back_from_a_folder(tmp_path):
    found = BiFormerBackbone(config(out_features=["stage2", "stage3"], norms=False, batch_norm="frozen"))
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.normal_(std=0.3)
    found.save_pretrained(tmp_path)
    again = BiFormerBackbone.from_pretrained(tmp_path)
    require_alike(found, again)
    assert again.backbone.region == 32 and again.backbone.batch_norm == "frozen"
    assert transformers.AutoConfig.from_pretrained(tmp_path).to_dict() == again.config.to_dict()


def test_upernet_stands_on_it(tmp_path):
    model = upernet()
    labels = torch.randint(5, (2, 53, 71))
    out = model.train()(torch.randn(2, 3, 53, 71), labels=labels)
    assert out.logits.shape == (2, 5, 53, 71)
    out.loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    model.save_pretrained(tmp_path)
    require_alike(model, transformers.UperNetForSemanticSegmentation.from_pretrained(tmp_path))


def test_upernet_cannot_be_trained_on_one_image():
    model = upernet().train()
    with pytest.raises(ValueError, match="Expected more than 1 value per channel when training"):
        model(torch.randn(1, 3, 53, 71))
    assert model.eval()(torch.randn(1, 3, 53, 71)).logits.isfinite().all()


def test_the_head_alone_takes_the_maps_of_a_backbone():
    from transformers.models.upernet.modeling_upernet import UperNetHead

    backbone = bra.Backbone(bra.BiFormer(CONFIG), region=32)
    head = UperNetHead(transformers.UperNetConfig(hidden_size=8, num_labels=5), backbone.channels)
    logits = head(backbone(torch.randn(2, 3, 53, 71), [(53, 31), (29, 71)]))
    assert logits.shape == (2, 5, 14, 18)


def test_all_stages_are_returned_if_none_is_named():
    assert BiFormerBackboneConfig().out_indices == [0, 1, 2, 3]
    assert BiFormerBackboneConfig(model="nano").stage_names == ["stage1"]
