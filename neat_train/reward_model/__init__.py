"""A reward model that learns from labels: what is trained, what it sees, its steps, and what is measured beside."""
