"""How long a newcomer waits: `make train` and `make test` in a fresh clone, nothing set up. Writes the times down.

Run it with the environment that `make test` leaves: .venv/bin/python .ci/fresh_clone.py
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from bra.files import write_atomically
from bra.measure import environment

ROOT = Path(__file__).parent.parent


def main():
    """Clone, run both targets, and record their wall times, installation and all."""
    seconds = {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "bra"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        for target in ("train", "test"):
            start = time.perf_counter()
            subprocess.run(["make", target], cwd=clone, check=True)
            seconds[f"make {target}"] = round(time.perf_counter() - start, 1)
        summary = json.loads((clone / "runs" / "recall-topk" / "summary.json").read_text())
    content = {"command": "python .ci/fresh_clone.py", "seed": 0, "environment": environment(), "seconds": seconds}
    content["make train"] = {name: summary[name] for name in ("held_out", "blind", "seconds", "device")}
    write_atomically(ROOT / "book" / "results" / "fresh_clone.json", json.dumps(content, indent=1) + "\n")
    print(seconds)


if __name__ == "__main__":
    main()
