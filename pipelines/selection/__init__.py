"""Which pairs to keep: the same policy trained on equal numbers of pairs, chosen by every strategy."""
