"""`python -m bra.bench.alone JOB` prints the bytes that one step of a job needs. See `jobs.peak_bytes`."""

import sys

from bra.bench.jobs import weigh

print(weigh(sys.argv[1]))
