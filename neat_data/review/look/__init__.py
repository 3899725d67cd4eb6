"""Looking through a dataset: what is known of all of it, lists of its records, one record, and the rejects."""
