"""What a study found: active tissues at a false discovery rate, how true they are, and what prediction gained.

A caution, on all that follows from P(I(t)=1 | Y): the SNPs of a gene were chosen for their association with the same
expression, and the model does not know it. Its probabilities are then too sure, above all of genes whose SNPs barely
passed, and the share of false calls is larger than promised. `accuracy` measures by how much where the truth is known.

    realised share of false calls = sum_g sum_t C (1 - I) / sum_g sum_t C,    C(g, t) = 1 for what is called

is a ratio of sums over genes. The tissues of a gene share its SNPs and parameters, so standard errors are by gene:

    r = sum_g a_g / sum_g b_g,    SE(r) = sqrt( G/(G-1) sum_g (a_g - r b_g)^2 ) / sum_g b_g,    G genes that count
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from ebmodel.calibration import auc, bayesian_fdr, reliability
from ebmodel.calibration.discoveries import LEVELS
from ebmodel.eqtl.tissues import label
from ebmodel.errors import expect, listed
from ebmodel.files import read_table
from ebmodel.labels import BIN, ENTRY, ESTIMATOR, GENE, LEVEL, METHOD, SCREENING, THRESHOLD, TISSUE
from ebmodel.model import Array

__all__ = [
    "Accuracy",
    "accuracy",
    "choose",
    "egenes",
    "fitted",
    "gains",
    "gains_table",
    "probabilities",
    "read_truth",
]

LEAST = 2
"""Genes from which a standard error can be had."""


def fitted(results: xr.Dataset) -> xr.Dataset:
    """The results of genes that were fitted.

    Raises
    ------
    InputError
        If there are none.
    """
    found = results.isel({GENE: np.flatnonzero(results["status"].to_numpy() == "fitted")})
    expect(found.sizes[GENE] > 0, "at least one fitted gene", "none", "results", "look at their status and message")
    return found


def choose(results: xr.Dataset, dim: str, name: str) -> xr.Dataset:
    """What the results hold of an estimator, method or screening.

    Raises
    ------
    InputError
        If they do not hold it.
    """
    known = [str(one) for one in results[dim].to_numpy()]
    expect(name in known, f"one of {listed(known)}", repr(name), dim, "choose one that was run")
    return results.sel({dim: name})


def probabilities(results: xr.Dataset, estimator: str = "paper") -> xr.DataArray:
    """P(I(t)=1 | Y) of fitted genes, (gene, tissue); nan where a gene has no expression in a tissue.

    Raises
    ------
    InputError
        If no gene was fitted, or not by this estimator.
    """
    return choose(fitted(results), ESTIMATOR, estimator)["posterior_probability"].transpose(GENE, TISSUE)


# Calls ---------------------------------------------------------------------------------------------------------------


def egenes(results: xr.Dataset, fdr: float = 0.05, estimator: str = "paper") -> xr.Dataset:
    """Call genes active in tissues at a Bayesian false discovery rate, over the study and within each tissue.

    Parameters
    ----------
    results
        Of a study.
    fdr
        The rate wanted: the most pairs of gene and tissue with the largest P(I(t)=1 | Y) are called among which the
        mean of 1 - P is at most this (`ebmodel.calibration.bayesian_fdr`).
    estimator
        Whose probabilities: ``"paper"`` or ``"generalised"``.

    Returns
    -------
    Dataset
        Of fitted genes. By (gene, tissue): ``called``, over the study, with ``q_value``; ``called_within``, each tissue
        on its own. By gene: ``tissues``, in how many it is called; ``egene``, in any. By tissue: ``count`` and
        ``promised`` of the calls over the study; ``count_within``, ``promised_within`` and ``threshold_within``.
        ``sharing``, by number of tissues 0, 1, ..., m (``bin``): genes called in so many. Attributes: ``fdr``,
        ``threshold``, the least P called (nan for none); ``promised``, the expected share of false calls;
        ``promised_genes``, the expected share of called genes that are active in no tissue at all.

    Raises
    ------
    InputError
        If no gene was fitted, or not by this estimator, or ``fdr`` is not inside (0, 1).

    Notes
    -----
    SNPs chosen on the same data make these probabilities too sure, and the promise too good: see the module.
    """
    expect(0.0 < fdr < 1.0, "0 < fdr < 1", fdr, "fdr", "give a rate such as 0.05")
    probability = probabilities(results, estimator)
    P = probability.to_numpy().astype(float)
    q = _q_values(P, fdr)
    within = np.column_stack([_q_values(column, fdr) for column in P.T])
    called, called_within = q <= fdr, within <= fdr
    tissues = called.sum(axis=1)
    variables: dict[str, Any] = {
        "probability": ((GENE, TISSUE), P),
        "q_value": ((GENE, TISSUE), q),
        "called": ((GENE, TISSUE), called),
        "called_within": ((GENE, TISSUE), called_within),
        "tissues": (GENE, tissues),
        "egene": (GENE, tissues > 0),
        "count": (TISSUE, called.sum(axis=0)),
        "promised": (TISSUE, _mean_among(1.0 - P, called)),
        "count_within": (TISSUE, called_within.sum(axis=0)),
        "promised_within": (TISSUE, _mean_among(1.0 - P, called_within)),
        "threshold_within": (TISSUE, _least(P, called_within)),
        "sharing": (BIN, np.bincount(tissues, minlength=P.shape[1] + 1)),
    }
    # P(no tissue is active | Y) = prod_t (1 - P(I(t)=1 | Y)): tissues are independent given the parameters
    nowhere = np.prod(1.0 - np.where(np.isnan(P), 0.0, P), axis=1)
    about = {
        "fdr": fdr,
        "estimator": estimator,
        "threshold": float(_least(P.ravel(), called.ravel())),
        "promised": float(_mean_among((1.0 - P).ravel(), called.ravel())),
        "promised_genes": float(_mean_among(nowhere, tissues > 0)),
    }
    coords = {GENE: probability[GENE], TISSUE: probability[TISSUE], BIN: np.arange(P.shape[1] + 1)}
    return xr.Dataset(variables, {name: np.asarray(values) for name, values in coords.items()}, about)


def _q_values(P: Array, fdr: float) -> Array:
    """Least rate at which each is called; nan where there is no probability."""
    known, q = ~np.isnan(P), np.full(P.shape, np.nan)
    q[known] = bayesian_fdr(P[known], fdr)["q_value"]
    return q


def _mean_among(values: Array, which: NDArray[np.bool_]) -> Array:
    """Mean over the first axis of those that are meant; 0 for none, as no call is no false one."""
    return np.asarray(np.where(which, values, 0.0).sum(axis=0) / np.maximum(which.sum(axis=0), 1))


def _least(values: Array, which: NDArray[np.bool_]) -> Array:
    least = np.where(which, values, np.inf).min(axis=0)
    return np.asarray(np.where(np.isinf(least), np.nan, least))


# Truth ---------------------------------------------------------------------------------------------------------------


def read_truth(folder: str | Path) -> xr.Dataset:
    """Read the truth of a simulated study.

    Parameters
    ----------
    folder
        With ``genes.tsv.gz``, ``active.tsv.gz`` and ``effects.tsv.gz``; or the study's, which has ``truth/``.

    Returns
    -------
    Dataset
        ``active`` (gene, tissue), I(t); by gene what ``genes.tsv.gz`` says, ``egene`` as a truth value; ``effects``
        (entry, tissue) of a copy of the counted allele, of causal SNPs alone, whose ``entry_gene`` and ``variant``
        (entry) are beside them.

    Raises
    ------
    InputError
        If a file is missing or no table, or the genes of two of them differ.
    """
    folder = Path(folder)
    folder = folder / "truth" if (folder / "truth").is_dir() else folder
    genes, active = read_table(folder / "genes.tsv.gz"), read_table(folder / "active.tsv.gz")
    lacking = genes.index.symmetric_difference(active.index)
    expect(lacking.empty, "the same genes in genes and active", listed(lacking), str(folder), "simulate again")
    genes = genes.loc[active.index]
    if "causal" in genes:
        genes = genes.assign(causal=genes["causal"].fillna(""))  # of genes without an effect
    columns = {str(name): (GENE, values.to_numpy()) for name, values in genes.items()}
    variables: dict[str, Any] = columns | {"active": ((GENE, TISSUE), active.to_numpy().astype(bool))}
    if "egene" in columns:
        variables["egene"] = GENE, columns["egene"][1].astype(bool)
    effects = pd.read_csv(folder / "effects.tsv.gz", sep="\t", dtype={"gene": str, "variant": str})
    variables |= {
        "effects": ((ENTRY, TISSUE), effects[list(active.columns)].to_numpy(dtype=float)),
        "entry_gene": (ENTRY, effects["gene"].to_numpy(dtype=object)),
        "variant": (ENTRY, effects["variant"].to_numpy(dtype=object)),
    }
    return xr.Dataset(variables, {GENE: active.index.to_numpy(), TISSUE: active.columns.to_numpy()})


@dataclass(frozen=True)
class Accuracy:
    """How true the probabilities and calls of fitted genes are. Standard errors, ``*_se``, are by gene."""

    tissues: xr.Dataset
    """By (estimator, tissue): ``auc``; ``brier``, the mean of (P - I)^2; ``active``, how many genes truly are;
    ``called``, how many are called over the study, the share of false ones ``promised`` and ``realised``; ``power``,
    the share of active ones called."""
    pooled: xr.Dataset
    """The same by estimator, over all pairs of gene and tissue; and ``power_study``, the share called of all that are
    truly active, in genes that were not fitted too, where the choice of SNPs missed them."""
    levels: xr.Dataset
    """By (estimator, level): ``called``, ``promised``, ``realised`` and ``power`` at other rates."""
    reliability: xr.Dataset
    """By (estimator, bin) of P(I(t)=1 | Y), as `ebmodel.calibration.reliability`, a gene for a data set."""
    fdr: float
    """The rate of the calls in `tissues` and `pooled`."""

    def table(self) -> pd.DataFrame:
        """One row an estimator and tissue, after one for all tissues."""
        names = ["active", "called", "auc", "brier", "promised", "realised", "realised_se", "power", "power_se"]
        frames = []
        for name in self.pooled[ESTIMATOR].to_numpy():
            every = self.pooled.sel({ESTIMATOR: name})
            mine: pd.DataFrame = self.tissues.sel({ESTIMATOR: name}).to_dataframe()[names]
            whole = pd.DataFrame([[every[one].item() for one in names]], ["all tissues"], names)
            frames.append(pd.concat([whole, mine.rename(index=label)]))
        frame = pd.concat(frames, keys=list(self.pooled[ESTIMATOR].to_numpy()), names=[ESTIMATOR, TISSUE])
        return frame.astype({"active": int, "called": int})

    def __str__(self) -> str:
        return self.table().to_string(float_format=lambda value: f"{value:.3f}")


def accuracy(
    results: xr.Dataset,
    truth: xr.Dataset | str | Path,
    fdr: float = 0.05,
    levels: Sequence[float] = LEVELS,
    bins: int = 10,
    draws: int = 100,
) -> Accuracy:
    """Compare the probabilities and calls of a simulated study with its truth, for every estimator.

    Parameters
    ----------
    results
        Of the study.
    truth
        As from `read_truth`, or its folder.
    fdr
        Rate of the calls (`egenes`).
    levels
        Other rates, for `Accuracy.levels`.
    bins, draws
        As in `ebmodel.calibration.reliability`.

    Returns
    -------
    Accuracy
        Tables, by estimator.

    Raises
    ------
    InputError
        If no gene was fitted, the truth lacks a gene or tissue, or a rate is not inside (0, 1).
    """
    truth = truth if isinstance(truth, xr.Dataset) else read_truth(truth)
    for dim in (GENE, TISSUE):
        lacking = pd.Index(results[dim].to_numpy()).difference(pd.Index(truth[dim].to_numpy()))
        expect(lacking.empty, f"a truth for every {dim}", f"none for {listed(lacking)}", "truth", "give that study's")
    names = [str(name) for name in results[ESTIMATOR].to_numpy()]
    found = [_compare(results, truth, name, fdr, levels, bins, draws) for name in names]
    along = pd.Index(names, name=ESTIMATOR)
    by_tissue, pooled, rates, curve = (
        xr.concat(part, along, combine_attrs="drop_conflicts") for part in zip(*found, strict=True)
    )
    return Accuracy(by_tissue, pooled, rates, curve, fdr)


def _compare(
    results: xr.Dataset,
    truth: xr.Dataset,
    estimator: str,
    fdr: float,
    levels: Sequence[float],
    bins: int,
    draws: int,
) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset, xr.Dataset]:
    """Parts of `Accuracy` of one estimator."""
    calls = egenes(results, fdr, estimator)
    truly = truth["active"].sel({GENE: results[GENE], TISSUE: calls[TISSUE]}).transpose(GENE, TISSUE)
    P, q, called = (calls[name].to_numpy() for name in ("probability", "q_value", "called"))
    known, I = ~np.isnan(P), truly.sel({GENE: calls[GENE]}).to_numpy()
    outcome = _outcome(P, I, called)
    squares = np.where(known, (P - I) ** 2, 0.0)
    tissues = _rates(outcome) | {"brier": _share(squares, known)[0]}
    tissues["auc"] = np.array([auc(p[k], i[k]) for p, i, k in zip(P.T, I.T, known.T, strict=True)])
    pooled = _rates(_over_tissues(outcome)) | {"brier": squares.sum() / known.sum(), "auc": auc(P[known], I[known])}
    pooled["power_study"] = (called & I).sum() / max(truly.to_numpy().sum(), 1)
    by_level = [_over_tissues(_outcome(P, I, q <= level)) for level in levels]
    rates = _rates([np.stack(columns, axis=-1) for columns in zip(*by_level, strict=True)])
    rows = [(p[k], i[k]) for p, i, k in zip(P, I, known, strict=True) if k.any()]
    return (
        xr.Dataset({name: (TISSUE, values) for name, values in tissues.items()}, {TISSUE: calls[TISSUE]}),
        xr.Dataset(pooled),
        xr.Dataset({name: (LEVEL, values) for name, values in rates.items()}, {LEVEL: np.asarray(levels)}),
        reliability([p for p, _ in rows], [i for _, i in rows], bins, draws=draws),
    )


def _outcome(P: Array, I: NDArray[np.bool_], called: NDArray[np.bool_]) -> list[Array]:
    """What came of calls: active, called, 1 - P of what is called, falsely and rightly called; each (gene, tissue)."""
    active = I & ~np.isnan(P)
    every = (active, called, np.where(called, 1.0 - P, 0.0), called & ~I, called & I)
    return [np.asarray(one, dtype=float) for one in every]


def _over_tissues(outcome: list[Array]) -> list[Array]:
    return [one.sum(axis=1) for one in outcome]


def _rates(outcome: list[Array]) -> dict[str, Array]:
    """Rates of an outcome (gene, ...), over genes."""
    active, called, doubt, false, hit = outcome
    (realised, realised_se), (power, power_se) = _share(false, called), _share(hit, active)
    return {
        "active": active.sum(axis=0),
        "called": called.sum(axis=0),
        "promised": _share(doubt, called)[0],
        "realised": realised,
        "realised_se": realised_se,
        "power": power,
        "power_se": power_se,
    }


def _share(a: NDArray[Any], b: NDArray[Any]) -> tuple[Array, Array]:
    """r = sum_g a_g / sum_g b_g over genes (gene, ...), and its standard error; nan where there is nothing."""
    G, total = ((a != 0) | (b != 0)).sum(axis=0), b.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r = a.sum(axis=0) / total
        error = np.sqrt(G / (G - 1) * np.sum((a - r * b) ** 2, axis=0)) / total
    return np.where(total > 0, r, np.nan), np.where((total > 0) & (G >= LEAST), error, np.nan)


# Prediction ----------------------------------------------------------------------------------------------------------


def gains(results: xr.Dataset, against: str = "ols", min_snps: Sequence[int] = (0, 20)) -> xr.Dataset:
    """What every method gains in cross-validated prediction over another, by tissue.

    Parameters
    ----------
    results
        Of a study.
    against
        The other method.
    min_snps
        Least numbers of SNPs that genes have, to look at such genes alone; 0 for all fitted genes.

    Returns
    -------
    Dataset
        By (screening, threshold, method, tissue), means over genes for which both methods predict: ``genes``, how many;
        ``r2`` and ``r2_against``, the squared correlation of prediction and expression; ``increase`` = their
        difference, ``percent`` = 100 increase / r2_against, each with its standard error by gene; ``pmse_ratio``, the
        median over genes of the ratio of their PMSEs, and ``pmse_better``, the share of genes for which it is below 1.
        ``threshold`` are the least numbers of SNPs.

    Raises
    ------
    InputError
        If no gene was fitted, or not by ``against``.

    Notes
    -----
    A method that predicts the same for every sample explains nothing: its R2 is 0, not left out, where it has a PMSE.
    The percentage is of the mean R2, as the paper's; a mean of genes' percentages would be that of R2s near 0.
    """
    done = fitted(results)
    order = (SCREENING, METHOD, GENE, TISSUE)
    pmse = done["pmse"].transpose(*order)
    r2 = done["r2"].transpose(*order).fillna(0.0).where(np.isfinite(pmse))
    choose(done, METHOD, against)
    snps = done["snps"].to_numpy()
    parts = []
    for least in min_snps:
        some = {GENE: np.flatnonzero(snps >= least)}
        parts.append(_gain(pmse.isel(some), r2.isel(some), against))
    along = pd.Index(list(min_snps), name=THRESHOLD)
    return xr.concat(parts, along).transpose(SCREENING, THRESHOLD, METHOD, TISSUE).assign_attrs(against=against)


def _gain(pmse: xr.DataArray, r2: xr.DataArray, against: str) -> xr.Dataset:
    """Gains of some genes; values (screening, method, gene, tissue)."""
    ratio = pmse / pmse.sel({METHOD: against}, drop=True)
    pairs = xr.apply_ufunc(np.isfinite, ratio)
    mine, other = r2.where(pairs, 0.0), r2.sel({METHOD: against}, drop=True).where(pairs, 0.0)
    dims = (SCREENING, METHOD, TISSUE)
    a, b, both = (one.transpose(GENE, *dims).to_numpy() for one in (mine, other, pairs))
    (increase, increase_se), (percent, percent_se) = _share(a - b, both), _share(100.0 * (a - b), b)
    found = {
        "genes": both.sum(axis=0),
        "r2": _share(a, both)[0],
        "r2_against": _share(b, both)[0],
        "increase": increase,
        "increase_se": increase_se,
        "percent": percent,
        "percent_se": percent_se,
        "pmse_ratio": ratio.transpose(GENE, *dims).median(GENE).to_numpy(),
        "pmse_better": _share((ratio < 1.0).transpose(GENE, *dims).to_numpy(), both)[0],
    }
    kept = {name: values for name, values in r2.coords.items() if name in dims}
    return xr.Dataset({name: (dims, values) for name, values in found.items()}, kept)


def gains_table(
    found: xr.Dataset, method: str = "paper", screening: str = "outside", min_snps: int = 0
) -> pd.DataFrame:
    """Gains of one method, one row a tissue, after one of means over tissues.

    Parameters
    ----------
    found
        As from `gains`.
    method, screening, min_snps
        Whose, on which choice of SNPs, and of genes with how many.

    Returns
    -------
    DataFrame
        Columns as the variables of `gains`.

    Raises
    ------
    InputError
        If there is no such method, screening or number of SNPs.
    """
    mine = choose(choose(found, METHOD, method), SCREENING, screening)
    expect(min_snps in mine[THRESHOLD], f"one of {listed(mine[THRESHOLD].to_numpy())}", min_snps, "min_snps",
           "give it to gains")  # fmt: skip
    frame: pd.DataFrame = mine.sel({THRESHOLD: min_snps}).to_dataframe()[list(mine.data_vars)]
    # tissues share their genes: the error of a mean over tissues is not the one of independent means
    mean = frame.drop(columns=["increase_se", "percent_se"]).mean().to_frame("mean of tissues").T
    return pd.concat([mean, frame.rename(index=label)])[list(frame.columns)].rename_axis(TISSUE)
