"""Token trees: packed, attended to, run in one forward pass, and probed for exactness."""
