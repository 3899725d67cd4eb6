"""Rounds: how a dataset grows by sampled or given responses, and what each round added."""
