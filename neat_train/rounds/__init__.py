"""Online rounds: the policy in training is sampled, scored and trained on, block by block (NEAT Algorithm 1)."""
