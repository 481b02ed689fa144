"""How fast and how large: `python -m bra.bench`. See `__main__` for what it measures, `jobs` for how."""
