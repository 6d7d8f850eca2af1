"""The gene of ``ebmodel demo``: drawn from the model itself, so the truth is known and every assumption holds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import ndtr

from ebmodel.labels import SNP, TISSUE
from ebmodel.model import Array, Params
from ebmodel.results import Fit
from ebmodel.simulate import model_true

__all__ = ["TISSUES", "Row", "compare", "simulate_gene"]

TISSUES = (
    "Adipose Subcutaneous", "Adipose Visceral", "Adrenal Gland", "Artery Aorta", "Artery Coronary", "Artery Tibial",
    "Brain Cerebellum", "Brain Cortex", "Breast", "Colon Sigmoid", "Colon Transverse", "Esophagus Mucosa",
    "Esophagus Muscularis", "Fibroblasts", "Heart Atrial Appendage", "Heart Left Ventricle", "Liver", "Lung",
    "Lymphocytes", "Muscle Skeletal", "Nerve Tibial", "Pancreas", "Pituitary", "Prostate", "Skin Lower Leg",
    "Skin Suprapubic", "Spleen", "Stomach", "Testis", "Whole Blood",
)  # fmt: skip
"""Tissues of the kind that the paper's Section 7 has; the data are simulated."""

THETA = Params(tau1=0.6, beta=[0.3, -0.2, 0.0, 0.25, 0.0, -0.15, 0.15, 0.0], eta=2.5, sigma2=1.0)


def simulate_gene(seed: int = 0, n: int = 120, missing: float = 0.25) -> xr.Dataset:
    """One gene in 30 tissues: allele counts with linkage disequilibrium, about their means, and ``model_true`` on them.

    Returns
    -------
    Dataset
        As from `ebmodel.simulate.model_true`, with tissue names.
    """
    simulated, genotypes = np.random.SeedSequence(seed).spawn(2)
    X = _allele_counts(n, len(THETA.beta), np.random.default_rng(genotypes))
    gene = model_true(THETA, X=X - X.mean(axis=0), m=len(TISSUES), missing=missing, seed=simulated)
    return gene.assign_coords({TISSUE: list(TISSUES), SNP: [f"rs{j + 1}" for j in range(len(THETA.beta))]})


class Row(NamedTuple):
    """One line of the demo's table."""

    what: str
    truth: float
    fit: float
    least_squares: float | None = None


def compare(fit: Fit, gene: xr.Dataset) -> list[Row]:
    """The fit beside the truth: parameters, calls, and the error of effects."""
    theta, active = fit.params, gene["active"]
    named = (fit.posterior_probability > 0.5) == active
    error = [float(((estimate - gene["effects"]) ** 2).mean()) for estimate in (fit.effects, fit.ols)]
    return [
        Row("share of active tissues, tau1", THETA.tau1, theta.tau1),
        Row("scale of the slab, eta", THETA.eta, theta.eta),
        Row("error variance, sigma2", THETA.sigma2, theta.sigma2),
        Row("tissues called right at P(I=1) > 1/2", active.size, int(named.sum())),
        Row("mean squared error of effects", 0, *error),
    ]


def _allele_counts(n: int, p: int, rng: np.random.Generator, decay: float = 0.6) -> Array:
    """0, 1 or 2 minor alleles (n, p): two haplotypes, each a thresholded Gaussian whose correlation decays by SNP."""
    lag = np.abs(np.subtract.outer(np.arange(p), np.arange(p)))
    haplotypes = rng.standard_normal((2, n, p)) @ np.linalg.cholesky(decay**lag).T
    frequency = rng.uniform(0.2, 0.5, p)
    return (ndtr(haplotypes) < frequency).sum(axis=0).astype(float)
