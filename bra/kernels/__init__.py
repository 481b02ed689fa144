"""Step 09. Never gather at all: two ways that read the routed keys and values where they lie.

`attend_fused`: our own kernels, written in Triton. `attend_flex`: PyTorch's FlexAttention, told which blocks are read.
Both take what `attend` takes. Importing this costs nothing; without what a way needs, calling it says so in one line.
"""

from bra.kernels.choose import way_on_cuda
from bra.kernels.flex import attend_flex
from bra.kernels.fused import attend_fused

__all__ = ["attend_flex", "attend_fused", "way_on_cuda"]
