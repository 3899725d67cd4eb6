"""`python -m neat_train` is `neat-train`."""

from neat_train.cli import main

if __name__ == "__main__":
    main()
