import subprocess
import sys
from importlib.util import find_spec

import pytest
import torch

import bra
from bra.dense import features

SCRIPT = """
import timm, torch
from bra.dense.features import register_with_timm
register_with_timm()
register_with_timm()
assert timm.list_models("biformer*") == ["biformer_base", "biformer_small", "biformer_tiny"]
backbone = timm.create_model("biformer_tiny", features_only=True, out_indices=(1, -1), region=64).eval()
info = backbone.feature_info
assert (info.channels(), info.reduction(), info.module_name()) == ([128, 512], [8, 32], ["stages.1", "stages.3"])
assert [tuple(x.shape) for x in backbone(torch.randn(1, 3, 70, 100))] == [(1, 128, 9, 13), (1, 512, 3, 4)]
last = timm.create_model("biformer_tiny", features_only=True, out_indices=2)
assert last.feature_info.channels() == [256, 512]
whole = timm.create_model("biformer_tiny", num_classes=7, drop_path_rate=0.1, in_chans=1)
assert whole(torch.randn(1, 1, 64, 64)).shape == (1, 7)
print(whole.config.drop_path)
"""


def test_timm_makes_them_by_name():
    """In a process of its own: timm warns when it is imported, and what is registered stays."""
    if find_spec("timm") is None:
        pytest.skip("timm is not here")
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert run.stdout == "0.1\n", run.stderr


def test_it_promises_no_weights():
    with pytest.raises(ValueError, match=r"pretrained must be False: load a checkpoint with bra.official.load"):
        features.make("tiny", pretrained=True)


def test_what_is_made_without_features_is_the_model():
    torch.manual_seed(3)
    found = features.make("tiny", num_classes=7)
    torch.manual_seed(3)
    own = bra.biformer_tiny(num_classes=7)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), own.parameters(), strict=True))
