"""What a dataset holds, in figures: `stats`, agreement of reward models, polarity of prompts; and records to show."""
