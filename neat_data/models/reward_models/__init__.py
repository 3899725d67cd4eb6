"""The back ends that score; `neat_data.models.load` opens the one that is asked for."""
