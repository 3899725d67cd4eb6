"""From the records of a dataset to micro-batches: split, order, examples, batches."""
