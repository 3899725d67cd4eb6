"""The policy: its weights and adapter, its log-probabilities, and what becomes of it after training."""
