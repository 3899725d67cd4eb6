"""What a run shows for itself: card, curves, summary."""
