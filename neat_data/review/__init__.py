"""See a dataset and judge it, in a browser: `neat-data review`."""
