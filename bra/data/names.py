"""Names of files and folders: a disk may hold any bytes, and two names that look alike may differ."""

import unicodedata
from pathlib import Path


def printable(name: str | Path) -> str:
    r"""The name as text of one line that can be written as UTF-8.

    Bytes that are not UTF-8, which Python holds as lone surrogates, become \xNN, and so do line ends and other
    control characters of ASCII; further characters that have no shape of their own become \uNNNN.
    """
    name = str(name)
    if name.isprintable():  # of a million names almost all
        return name
    return "".join(character if character.isprintable() else escaped(character) for character in name)


def escaped(character: str) -> str:
    r"""A character as \xNN if it is ASCII, or stands for a byte that is not UTF-8; else as \uNNNN or \UNNNNNNNN."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # where Python puts the bytes 80 to ff
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def normalised(name: str) -> str:
    """The name with one code for each accented letter.

    Some systems write a letter and its accent as two codes (NFD), others as one (NFC): on a screen both look alike.
    """
    return unicodedata.normalize("NFC", name)


def spelt_out(name: str) -> str:
    """The name with everything but ASCII as escapes, which shows how names that look alike differ."""
    return "".join(character if " " <= character <= "~" else escaped(character) for character in name)
