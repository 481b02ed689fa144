"""Shape checks are on in every test: the annotations of `bra` are enforced as it is imported."""

import jaxtyping
import pytest
import torch

hook = jaxtyping.install_import_hook("bra", "beartype.beartype")


@pytest.fixture(autouse=True)
def seed():
    """Every test begins with the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked():
    """Shape checks off, as for a user: what a function itself says about a bad argument."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
