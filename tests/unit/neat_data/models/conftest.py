"""Tiny models with random weights, and a tokenizer trained here."""

from __future__ import annotations

from tests.support.classifiers import make_classifier, make_policy, make_tokenizer, tasks, tokenizer

__all__ = ["make_classifier", "make_policy", "make_tokenizer", "tasks", "tokenizer"]
