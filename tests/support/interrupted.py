"""Training runs that die as a killed process does."""

import pytest

from bra.train.loop import complete, look_away


def die(training, at, watch=look_away):
    """Train up to step `at`, which is not in the log as yet; `watch` sees every step."""

    def look(step, model):
        watch(step, model)
        if step == at:
            raise SystemError

    with pytest.raises(SystemError):
        complete(training, look)
