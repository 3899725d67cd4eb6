"""Rewards of further reward models beside a dataset's own, and rankings made of them."""
