"""Trains the tiny models that the project ships: `python -m pipelines.tiny_models --data FOLDER --out data/models`.

Each step is a module: `rows` reads, `splits` cuts, `tokenizer`, `language`, `reward`, `teach` train, `agreement` and
`contrast` measure, `cards` writes. `steps` chains them; what a finished step left in the work folder is not made again.
"""
