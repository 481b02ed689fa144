"""Step 10. BiFormer under detectors and segmenters: maps of its stages (backbone), heads, adapters to other libraries.

`Backbone` gives maps for images of many sizes in one batch, `SemanticFPN` and `PixelHead` make pixels of them,
`Segmenter` is both together. `detector` puts a backbone under torchvision's detectors, which must then be installed.
"""

from bra.dense.adapters import detector
from bra.dense.backbone import Backbone
from bra.dense.heads import PixelHead, Segmenter, SemanticFPN

__all__ = ["Backbone", "PixelHead", "Segmenter", "SemanticFPN", "detector"]
