"""Texts that models are prompted with: prompt sets for sampling, rubrics for reward models that judge."""
