"""The back ends that sample; `neat_data.models.load` opens the one that is asked for."""
