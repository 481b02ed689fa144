"""Started in a process of its own by `peak_bytes`: one job, and the memory that it takes."""

import sys

from bra.bench.jobs import weigh

print(weigh(sys.argv[1]))
