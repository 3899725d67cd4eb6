"""Verdicts out to other labelling tools and back: Label Studio and Argilla, in the JSON that each documents."""
