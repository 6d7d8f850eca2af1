"""Empirical-Bayes multi-tissue eQTL regression: the model of Xue & Li, fitted exactly, and tools to check it."""

from ebmodel import simulate
from ebmodel.errors import InputError
from ebmodel.fit import fit, loglik, oracle
from ebmodel.data import standardise
from ebmodel.model import Params
from ebmodel.results import Fit, open_fit
from ebmodel.shape import alpha_profile

__all__ = ["Fit", "InputError", "Params", "alpha_profile", "fit", "loglik", "open_fit", "oracle", "simulate", "standardise"]
__version__ = "0.1.0"
