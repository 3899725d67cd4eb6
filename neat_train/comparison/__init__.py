"""What `compare` is made of: reading evaluations, figures of an arm, tests between arms, tables and page."""
