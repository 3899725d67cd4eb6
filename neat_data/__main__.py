"""`python -m neat_data` is `neat-data`."""

from neat_data.cli import main

if __name__ == "__main__":
    main()
