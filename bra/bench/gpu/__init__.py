"""All that a GPU must show, with one command: `python -m bra.bench gpu`."""
