"""The win rate that answers of equal length would have had: a judge that likes long answers favours who writes them."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from neat_train.statistics import NORMAL, Interval

FEWEST = 200  # pairs, below which two coefficients say too little
OVERLAP = 0.05  # of the pairs, that must reach equal length from either side


def length_controlled(wins: np.ndarray, longer: np.ndarray) -> Interval | None:
    """The win rate at equal length by the model of length-controlled AlpacaEval (Dubois et al. 2024, equation 2).

    P(win) = sigmoid(theta + phi tanh(d / sd(d))) with d the difference in length; at d = 0 it is sigmoid(theta), which
    is returned. Their third term, how hard each query is, needs many models on the same queries and is left out. The
    coefficients maximise Firth's penalised likelihood (Biometrika 80, 1993), log L + log det(information) / 2, which
    has a maximum also where length alone decides. The interval is Wald's for theta, its variance times that of the
    verdicts over that of as many without ties (a quasi-likelihood; one win and one loss are added, for when all tie).

    Args:
        wins: (pairs,), 1 for a win, 0 for a loss, 1/2 for a tie.
        longer: (pairs,), the length of the answer minus that of the other one, in characters.

    Returns:
        None under `FEWEST` pairs, where d is the same for all, and where fewer than `OVERLAP` of the pairs have d <= 0,
        or d >= 0: equal length then lies beyond the data, and the fit would speak of what it never saw.
    """
    if len(wins) < FEWEST or np.ptp(longer) == 0 or min(np.mean(longer <= 0), np.mean(longer >= 0)) < OVERLAP:
        return None
    wins = np.asarray(wins, dtype=np.float64)
    columns = np.column_stack([np.ones(len(wins)), np.tanh(longer / np.std(longer))])
    theta, variance = _intercept(columns, wins)
    reach = NORMAL * np.sqrt(variance * _dispersion(wins))
    value, low, high = special.expit([theta, theta - reach, theta + reach])
    return Interval(float(value), float(low), float(high))


def _intercept(columns: np.ndarray, wins: np.ndarray) -> tuple[float, float]:
    """The first coefficient and its variance."""

    def loss(coefficients: np.ndarray) -> float:
        scores = columns @ coefficients
        likelihood = wins @ special.log_expit(scores) + (1 - wins) @ special.log_expit(-scores)
        return -float(likelihood + np.linalg.slogdet(_information(columns, coefficients))[1] / 2)

    fitted = optimize.minimize(loss, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-9}).x
    return float(fitted[0]), float(np.linalg.inv(_information(columns, fitted))[0, 0])


def _information(columns: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(2, 2)."""
    chances = special.expit(columns @ coefficients)
    return (columns * (chances * (1 - chances))[:, None]).T @ columns


def _dispersion(wins: np.ndarray) -> float:
    known = np.append(wins, [0.0, 1.0])
    return float(known.var() / (known.mean() * (1 - known.mean())))
