"""Expression of a simulated study: drawn from the model, plus covariates, a chunk of genes at a time.

For a gene with p causal SNPs X (centred over all donors, X = QR) and a tissue t with covariates C(t),

    Y(t) = X beta(t) + C(t) a(t) + eps(t),    eps(t) ~ N(0, sigma2 I)                (1)
    beta(t) | I(t)=1 ~ N(beta, eta (X'X)^-1),  beta(t) | I(t)=0 = 0                  (3)
    I(t) ~ Bernoulli(tau1), given that at least one is 1                             (4)

and beta = R^-1 gamma. The heritability h2 = (||gamma||^2 + eta p) / n is the share that the SNPs explain on average in
an active tissue, whose variance is 1; ||gamma||^2 / (||gamma||^2 + eta p) is how far active tissues share effects.

The model's I(t) are independent. Those of related tissues can be made alike, with a relatedness r in a probit

    I(t) = 1{u(t) < Phi^-1(tau1)},    u ~ N(0, S),    S(t,t) = 1, S(t,s) = r within a group of tissues, r/2 across

which leaves P(I(t)=1) = tau1 for every tissue, before the condition that at least one is active.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from ebmodel.eqtl.simulation.genotypes import Packed
from ebmodel.eqtl.simulation.packing import bgzf, decimals
from ebmodel.eqtl.tissues import TISSUES
from ebmodel.model import Array

__all__ = ["CIS", "Gene", "Law", "Piece", "Sampled", "Truth", "simulate_chunk"]

CIS = 1_000_000
"""Base pairs on either side of the transcription start within which causal SNPs lie."""
NEARNESS = 100_000
"""Base pairs over which the odds of being causal fall by a factor e."""
LINKED = 0.8
"""R^2 that no two causal SNPs of a gene exceed."""
SPREAD, MOST = 0.9, 0.4
"""Sd of log heritability over genes, and the largest heritability."""
EXPLAINED = (4.0, 6.0)
"""Beta distribution over genes of the share of what is left that covariates explain."""


@dataclass(frozen=True)
class Law:
    """What genes are drawn from; see `ebmodel.eqtl.simulation.simulate_study`."""

    tau1: tuple[float, float]
    heritability: float
    sharing: tuple[float, float]
    causal: float
    causal_maf: float
    donor_correlation: float
    relatedness: float


@dataclass(frozen=True)
class Sampled:
    """By tissue, in one order: whose samples there are, and their covariates, scaled to mean 0 and sd 1."""

    rows: Mapping[str, NDArray[np.int64]]
    covariates: Mapping[str, Array]


class Gene(NamedTuple):
    """Where a gene is, and whether it has effects."""

    gene: str
    chromosome: str
    tss: int
    egene: bool
    first: int
    """Row of the first variant in its cis window."""
    last: int
    """The row after that of the last."""


class Piece(NamedTuple):
    """Consecutive genes and the variants around them."""

    genes: list[Gene]
    first: int
    """Row of the first variant here."""
    position: NDArray[np.int64]
    """(variant,)"""
    frequency: Array
    """(variant,)"""


class Truth(NamedTuple):
    """Of one gene: rows of the causal variants (empty for a gene without), I(t), beta(t) and the parameters."""

    causal: NDArray[np.int64]
    active: NDArray[np.bool_]
    effects: Array
    """(tissue, causal)"""
    tau1: float
    eta: float
    sigma2: float
    heritability: float


def simulate_chunk(
    piece: Piece, packed: Packed, sampled: Sampled, law: Law, seed: np.random.SeedSequence
) -> tuple[list[Truth], dict[str, bytes]]:
    """Draw some genes.

    Returns
    -------
    list of Truth
        A gene each.
    dict
        By tissue, the genes' lines of the expression file, in blocked gzip.
    """
    rng = np.random.default_rng(seed)
    m, n = len(sampled.rows), packed.donors
    A = _causes(list(sampled.rows), law.relatedness) if law.relatedness > 0.0 else None
    truths, explained = [], np.zeros((len(piece.genes), m, n))
    for g, gene in enumerate(piece.genes):
        truth, X = _draw_gene(piece, gene, packed, m, law, A, rng)
        explained[g] = truth.effects @ X.T  # X beta(t)
        truths.append(truth)
    left = 1.0 - np.array([truth.sigma2 + truth.heritability for truth in truths])  # of variance, for covariates
    sd = np.sqrt([truth.sigma2 for truth in truths])
    heads = [f"{gene.chromosome}\t{gene.tss - 1}\t{gene.tss}\t{gene.gene}".encode() for gene in piece.genes]
    shared, rho = rng.standard_normal((len(sd), n)), law.donor_correlation
    lines = {}
    for t, (tissue, rows) in enumerate(sampled.rows.items()):
        C = sampled.covariates[tissue]
        a = rng.standard_normal((len(sd), C.shape[1])) * np.sqrt(left / C.shape[1])[:, None]
        own = rng.standard_normal((len(sd), len(rows)))
        errors = sd[:, None] * (np.sqrt(rho) * shared[:, rows] + np.sqrt(1.0 - rho) * own)
        values = decimals(explained[:, t, rows] + a @ C.T + errors)
        text = b"".join(head + value + b"\n" for head, value in zip(heads, values, strict=True))
        lines[tissue] = bgzf(text, repeats=False)
    return truths, lines


def _draw_gene(
    piece: Piece, gene: Gene, packed: Packed, m: int, law: Law, A: Array | None, rng: np.random.Generator
) -> tuple[Truth, Array]:
    """Draw one gene's parameters and effects; with the causal SNPs, centred, (donor, causal).

    ``A`` is from `_causes`; None for independent tissues.
    """
    causal = _draw_causal(piece, gene, packed, law, rng) if gene.egene else np.array([], dtype=np.int64)
    h2 = min(law.heritability * np.exp(SPREAD * rng.standard_normal()), MOST) if len(causal) else 0.0
    sigma2 = (1.0 - h2) * (1.0 - rng.beta(*EXPLAINED))
    p, n = len(causal), packed.donors
    if not p:
        none = Truth(causal, np.zeros(m, dtype=bool), np.zeros((m, 0)), 0.0, np.nan, sigma2, h2)
        return none, np.zeros((n, 0))
    X = packed.read(causal).T.astype(float)
    X -= X.mean(axis=0)
    tau1, s = float(rng.beta(*law.tau1)), rng.beta(*law.sharing)
    active = _draw_active(tau1, m, rng) if A is None else _draw_related(tau1, A, rng)
    direction = rng.standard_normal(p)
    gamma = np.sqrt(s * h2 * n) * direction / np.linalg.norm(direction)  # ||gamma||^2 = s h2 n
    eta = (1.0 - s) * h2 * n / p
    R = np.linalg.qr(X, mode="r")
    slab = np.linalg.solve(R, (gamma + np.sqrt(eta) * rng.standard_normal((m, p))).T).T  # N(beta, eta (X'X)^-1)
    return Truth(causal, active, np.where(active[:, None], slab, 0.0), tau1, eta, sigma2, h2), X


def _draw_causal(piece: Piece, gene: Gene, packed: Packed, law: Law, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose 1 + Poisson causal variants, near ones rather than far ones, none too closely linked; rows, sorted."""
    here = slice(gene.first - piece.first, gene.last - piece.first)
    frequency = piece.frequency[here]
    candidates = np.flatnonzero(np.minimum(frequency, 1.0 - frequency) >= law.causal_maf)
    if not len(candidates):
        return candidates
    distance = np.abs(piece.position[here][candidates] - gene.tss)
    score = rng.gumbel(size=len(candidates)) - distance / NEARNESS  # a draw without replacement, odds exp(-distance)
    wanted = 1 + rng.poisson(law.causal)
    rows = gene.first + candidates[np.argsort(-score)[: 3 * wanted]]
    r2 = np.corrcoef(packed.read(rows)).reshape(len(rows), len(rows)) ** 2
    chosen: list[int] = []
    for j in range(len(rows)):
        if len(chosen) < wanted and (not chosen or r2[j, chosen].max() <= LINKED):
            chosen.append(j)
    return np.sort(rows[chosen])


def _draw_active(tau1: float, m: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw I(t) ~ Bernoulli(tau1) given that at least one is 1, one after the other."""
    active = np.zeros(m, dtype=bool)
    with np.errstate(divide="ignore"):  # tau1 = 1
        none = np.log1p(-tau1)
    for t, u in enumerate(rng.random(m)):
        # P(I(t)=1 | none before, some in t..m) = tau1 / (1 - (1-tau1)^(m-t))
        sure = 1.0 if active.any() else -np.expm1((m - t) * none)
        active[t] = u * sure < tau1
    return active


def _causes(tissues: Sequence[str], relatedness: float) -> Array:
    """(tissue, cause) A with S = AA': all tissues have a cause in common, those of a group another, each its own."""
    names, group = np.unique([TISSUES[tissue].group for tissue in tissues], return_inverse=True)
    common, own = np.sqrt(relatedness / 2.0), np.sqrt(1.0 - relatedness)
    m = len(tissues)
    return np.column_stack([np.full(m, common), common * np.eye(len(names))[group], own * np.eye(m)])


def _draw_related(tau1: float, A: Array, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw I(t) = 1{u(t) < Phi^-1(tau1)}, u = A e, given that at least one is 1.

    A tissue is chosen, its u(t) is drawn from below the threshold, and the others given it. A draw with k active
    tissues can come about in k ways, so it is kept with probability 1/k.
    """
    while True:
        t = rng.integers(len(A))
        u = A @ rng.standard_normal(A.shape[1])
        u += (A @ A[t]) * (ndtri(tau1 * rng.random()) - u[t])  # u(t) is the new one, the others move with S(.,t)
        active = u < ndtri(tau1)
        active[t] = True  # whatever rounding says
        if rng.random() * active.sum() < 1.0:
            return np.asarray(active)
