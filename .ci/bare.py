"""What must run where nothing but the package and its core dependencies is installed: python .ci/bare.py"""

import importlib.metadata
import sys

import torch

import bra
from bra.arguments import DISTRIBUTION


def main():
    """A layer and a model, forward and backward; and nothing was imported from the working tree."""
    x = torch.randn(2, 64, 11, 13, requires_grad=True)
    bra.BRA2d(dim=64, heads=2, grid=(3, 2), k=2)(x).sum().backward()
    assert x.grad is not None and x.grad.isfinite().all()
    assert bra.biformer_nano()(torch.randn(2, 3, 32, 32)).shape == (2, 8)
    maps = bra.Backbone(bra.biformer_tiny(), region=64)(torch.randn(1, 3, 96, 64))
    assert [tuple(each.shape[2:]) for each in maps] == [(24, 16), (12, 8), (6, 4), (3, 2)]
    assert importlib.metadata.version(DISTRIBUTION) == bra.__version__
    extras = {"matplotlib", "kornia", "accelerate", "torchvision", "transformers"} & {*sys.modules}
    assert not extras, f"import bra loads {extras}"
    where = f"torch {torch.__version__}, Python {sys.version.split()[0]}: {bra.__file__}"
    print(f"{DISTRIBUTION} {bra.__version__} on {where}")


if __name__ == "__main__":
    main()
