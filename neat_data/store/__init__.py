"""A dataset as a folder of Arrow shards: written atomically, resumed by fingerprint, read lazily, verified by hash."""
