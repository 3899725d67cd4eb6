"""What `stats` and `show` look like: tables for the terminal, pictures, an HTML page and the dataset's card."""
