"""Linear reward models: logistic regression on differences of hashed 1-2-grams and of length, one for each kind.

They serve twice, never scoring a row that they were fitted on: as the teacher whose judgement the small network is
given beside the human label, and to say which response stands behind which prompt when the policy is taught to follow
prompts. The kind of a training row is known, so nothing here has to read the query; the network has to.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Sequence

import numpy as np
from scipy import optimize, sparse

from pipelines.tiny_models.rows import KINDS, Pair

_WORD = re.compile(r"\w+|[^\w\s]")
_BUCKETS = 2**18
_LENGTH_SCALE = 3.0  # makes the length's weight cheap against the penalty


def features(texts: Sequence[str]) -> sparse.csr_matrix:
    """One row a text: which 1- and 2-grams occur, and the logarithm of the number of words."""
    indices: list[int] = []
    values: list[float] = []
    ends = [0]
    for text in texts:
        words = _WORD.findall(text.lower())
        grams = {*words, *map(" ".join, zip(["^", *words], [*words, "$"], strict=True))}
        buckets = sorted({zlib.crc32(gram.encode()) % _BUCKETS for gram in grams})
        indices.extend([*buckets, _BUCKETS])
        values.extend([*[1.0] * len(buckets), _LENGTH_SCALE * math.log1p(len(words))])
        ends.append(len(indices))
    return sparse.csr_matrix((values, indices, ends), shape=(len(texts), _BUCKETS + 1))


def fit(pairs: Sequence[Pair], penalty: float) -> np.ndarray:
    """Weights of the Bradley-Terry model with `penalty` / 2 times their squared length, (features,)."""
    gap = features([p.chosen for p in pairs]) - features([p.rejected for p in pairs])
    transposed = gap.T.tocsr()

    def objective(weights: np.ndarray) -> tuple[float, np.ndarray]:
        margin = gap @ weights
        loss = np.logaddexp(0, -margin).sum() + penalty / 2 * weights @ weights
        return loss, penalty * weights - transposed @ (1 / (1 + np.exp(margin)))

    start = np.zeros(gap.shape[1])
    return optimize.minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x


def score(pairs: Sequence[Pair], fitted: Sequence[Pair], penalty: float) -> list[tuple[float, float]]:
    """Scores of each pair's chosen and rejected response by models fitted on `fitted`, by those of the pair's kind.

    The scores of each kind are centred, so that both kinds have the same scale's middle.
    """
    result: list[tuple[float, float]] = [(0.0, 0.0)] * len(pairs)
    for kind in KINDS:
        rows = [i for i, pair in enumerate(pairs) if pair.kind == kind]
        if not rows:
            continue
        weights = fit([pair for pair in fitted if pair.kind == kind], penalty)
        chosen = features([pairs[i].chosen for i in rows]) @ weights
        rejected = features([pairs[i].rejected for i in rows]) @ weights
        middle = (chosen.mean() + rejected.mean()) / 2
        for i, c, r in zip(rows, chosen - middle, rejected - middle, strict=True):
            result[i] = (float(c), float(r))
    return result


def score_out_of_fold(pairs: Sequence[Pair], folds: int, penalty: float) -> list[tuple[float, float]]:
    """As `score`, each row scored by models fitted on the other folds; rows of one query are in one fold."""
    fold = [int(hashlib.sha256(pair.query_id.encode()).hexdigest(), 16) % folds for pair in pairs]
    result: list[tuple[float, float]] = [(0.0, 0.0)] * len(pairs)
    for held_out in range(folds):
        rows = [i for i, f in enumerate(fold) if f == held_out]
        others = [pair for pair, f in zip(pairs, fold, strict=True) if f != held_out]
        for i, scores in zip(rows, score([pairs[i] for i in rows], others, penalty), strict=True):
            result[i] = scores
    return result
