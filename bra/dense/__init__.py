"""Step 10. BiFormer under detectors and segmenters.

`Backbone` gives maps for images of many sizes in one batch; `SemanticFPN` and `PixelHead` make pixels of them, and
`Segmenter` is both together. `detector` puts a backbone under torchvision's detectors. For transformers and timm see
`bra.dense.auto` and `bra.dense.features`. Importing this needs none of the three.
"""

from bra.dense.adapters import detector
from bra.dense.backbone import Backbone
from bra.dense.heads import PixelHead, Segmenter, SemanticFPN

__all__ = ["Backbone", "PixelHead", "Segmenter", "SemanticFPN", "detector"]
