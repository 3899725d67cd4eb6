"""The settings of a run: declared, read, and checked against each other."""
