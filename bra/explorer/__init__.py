"""Step 12. What has it learnt to look at: an image, and whom each of its regions reads.

`python -m bra.explorer --help` writes the explorer of a run, or of a photograph, as one HTML file.
"""

from bra.explorer.widget import Explorer

__all__ = ["Explorer"]
