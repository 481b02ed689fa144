"""Invent a router: entries, the boards that they meet, a referee, a leaderboard. `python -m bra.invent --help`."""
