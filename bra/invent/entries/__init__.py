"""Entries of our own, one file each, and the template that `python -m bra.invent new` copies."""
