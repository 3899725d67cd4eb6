"""`fit`: a dataset and a policy in, a trained policy with its metrics, curves and card out.

`session` is one call from end to end, `data` what is learned from, `prepare` what is loaded, `steps` the training.
"""

from neat_train.fitting.prepare import default_budget
from neat_train.fitting.request import FitRequest, FitSummary
from neat_train.fitting.session import fit

__all__ = ["FitRequest", "FitSummary", "default_budget", "fit"]
