"""What a check says. What nobody looks at is heard all the same: it prints itself when it is thrown away."""

from typing import NamedTuple


class Heard:
    """A named tuple that prints itself before it is gone, unless it was `heard`: shown, tested, or read.

    So a notebook's last line shows it once, ``assert verdict`` shows it only if it is wrong, and a script that calls a
    check and does nothing with what it says prints it.
    """

    heard = False
    _fields: tuple[str, ...]

    def __getattribute__(self, name):
        if name in type(self)._fields:
            self.heard = True
        return super().__getattribute__(name)

    def __iter__(self):
        self.heard = True
        return super().__iter__()

    def __del__(self):
        if not self.heard:
            print(repr(self))


class Found(NamedTuple):
    """Whether an answer is right, and what to say about it."""

    passed: bool
    text: str


class Verdict(Heard, Found):
    """What a check found; true when the answer is right."""

    def __bool__(self):
        return self.passed

    def __repr__(self):
        return ("Right. " if self.passed else "Not yet. ") + self.text
