"""The optimiser's side of a run: trainer, held-out figures, checkpoints, placement, metrics, progress."""
