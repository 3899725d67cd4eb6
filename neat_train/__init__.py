"""Training on preference datasets by negative-prompt-driven alignment (NEAT) and the methods it is compared with."""
