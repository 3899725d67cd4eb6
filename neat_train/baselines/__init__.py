"""The methods that NEAT is compared with, on the same records, steps and terms."""
