"""Rewards for responses: `score`, `rescore`, `compact`, and what they share."""
