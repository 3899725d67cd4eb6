"""The shapes of preference data: columns in, messages, answers and their order out."""
