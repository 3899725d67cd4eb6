"""Data files: found here or on the hub, decompressed, and read row by row."""
