"""Common variants that are nearly independent: allele frequencies, and PLINK's ``--indep-pairwise`` (Section 7).

PLINK's rule, for the variants of one chromosome in order and genotypes x = 0, 1, 2 (any missing: over the samples that
have both),

    r² = (n Σxy - Σx Σy)² / ((n Σx² - (Σx)²) (n Σy² - (Σy)²))

In a window of 50 variants, each is compared with those after it until one has r² > 0.2; of the two the one with the
lower minor-allele frequency goes, the later one if they are equal. When all variants have had their turn, those that
are left go on from where they stopped, until a round removes nothing. Then the window moves on by 5 variants. Variants
that do not vary go at once.

Genotypes are held as bits, the sign of x - 1 and whether it is not zero, so that sums are counts of bits and exact.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ebmodel.errors import expect, listed
from ebmodel.kernel import kernel
from ebmodel.model import Array
from ebmodel.parallel import spread

if TYPE_CHECKING:
    from ebmodel.eqtl.ledger import Ledger
    from ebmodel.eqtl.variants import Variants

__all__ = ["allele_frequency", "common", "hard_calls", "impute", "indep_pairwise", "prune_variants"]

_SAME = 2.0**-44
"""Relative difference below which PLINK takes two frequencies, or r² and its threshold, to be equal."""
_CHUNK = 4096
"""Variants read at once."""
_HOM, _TWO, _SEEN = 0, 1, 2
"""Planes of bits: the call is 0 or 2; it is 2; there is one."""


def allele_frequency(G: NDArray[Any]) -> Array:
    """Frequency of the counted allele among samples with a genotype.

    Parameters
    ----------
    G : (sample, variant)
        Dosages with NaN, or integers with a negative number, where missing.

    Returns
    -------
    (variant,)
        NaN where no sample has a genotype.
    """
    return _ratio(*_tally(_by_variant(G)))


def impute(G: NDArray[Any]) -> tuple[Array, NDArray[np.int64]]:
    """Fill missing genotypes in with the variant's mean over the other samples.

    Parameters
    ----------
    G : (sample, variant)
        As in `allele_frequency`.

    Returns
    -------
    G : (sample, variant)
        Complete, of the kind of number that came if that was a float, else float64. A variant that no sample has stays
        missing.
    missing : (variant,)
        How many were filled in.
    """
    total, count = _tally(_by_variant(G))
    filled = G.astype(G.dtype if G.dtype.kind == "f" else np.float64)
    missing = len(G) - count
    for j in np.flatnonzero(missing):
        filled[~(G[:, j] >= 0), j] = total[j] / count[j] if count[j] else np.nan
    return filled, missing


def common(frequency: Array, maf: float = 0.05) -> NDArray[np.bool_]:
    """Whether the rarer allele is at least this frequent, as PLINK's ``--maf``.

    Parameters
    ----------
    frequency : (variant,)
        Of the counted allele.
    maf
        Least minor-allele frequency.

    Returns
    -------
    (variant,)
        False where the frequency is NaN.

    Raises
    ------
    InputError
        If ``maf`` is not between 0 and 0.5.
    """
    expect(0.0 <= maf <= 0.5, "0 <= maf <= 0.5", maf, "maf", "use 0.05, the paper's")
    enough: NDArray[np.bool_] = np.minimum(frequency, 1.0 - frequency) >= maf * (1.0 - _SAME)
    return enough


def hard_calls(dosage: NDArray[Any], distance: float = 0.1) -> NDArray[np.int8]:
    """Round dosages to 0, 1 or 2 as PLINK does.

    Parameters
    ----------
    dosage : (sample, variant)
        Between 0 and 2; NaN where missing.
    distance
        From the nearest of 0, 1 and 2; a millionth further is taken for rounding error.

    Returns
    -------
    (sample, variant)
        0, 1 or 2, and -1, missing, where the dosage is further from all of them.
    """
    return _round(_by_variant(dosage), distance).T


def indep_pairwise(
    G: NDArray[np.int8], window: int = 50, step: int = 5, r2: float = 0.2, frequency: Array | None = None
) -> NDArray[np.bool_]:
    """Mark the variants of one chromosome that PLINK 1.9's ``--indep-pairwise window step r2`` keeps.

    Parameters
    ----------
    G : (sample, variant)
        Copies of an allele, 0, 1 or 2, and -1 where missing (`hard_calls`), variants in the chromosome's order.
    window, step
        In variants.
    r2
        Of two variants with a larger r² in one window, one goes.
    frequency : (variant,), optional
        Of the counted allele, to decide which; those of ``G`` by default.

    Returns
    -------
    (variant,)
        True where kept.

    Raises
    ------
    InputError
        If G holds anything else, or the window, step or r² is out of PLINK's range. A step longer than the window,
        which PLINK takes, would leave variants out of every window and is refused too.

    Notes
    -----
    Equal to PLINK for samples that are all founders, on a chromosome of which everybody has two copies. A chromosome
    with a single variant keeps it, even if it does not vary.

    References
    ----------
    Chang et al. (2015), Second-generation PLINK. GigaScience 4:7.
    """
    _check_settings(window, step, r2)
    fits = bool(G.ndim == 2 and G.dtype == np.int8 and (G.size == 0 or (G.min() >= -1 and G.max() <= 2)))
    expect(fits, "int8 (sample, variant) of 0, 1, 2 and -1", f"{G.dtype} {G.shape}", "genotypes", "call hard_calls")
    frequency = allele_frequency(G) if frequency is None else frequency
    return _prune(_pack(_by_variant(G)), frequency, len(G), window, step, r2)


def prune_variants(
    variants: Variants,
    samples: NDArray[np.int64] | None = None,
    *,
    ledger: Ledger,
    maf: float = 0.05,
    window: int = 50,
    step: int = 5,
    r2: float = 0.2,
    jobs: int = 1,
    progress: bool = True,
) -> pd.DataFrame:
    """Keep a study's common, nearly independent variants, chromosome by chromosome.

    Parameters
    ----------
    variants
        The open genotype file, sorted by position within chromosomes.
    samples : (sample,), optional
        Positions of the donors to use among ``variants.samples``; all by default.
    ledger
        Where to note what is dropped, and why.
    maf
        Rarer variants are dropped first. Frequencies are those of dosages.
    window, step, r2
        As in `indep_pairwise`, on hard calls.
    jobs
        Processes, a chromosome each; -1 for all cores.
    progress
        Whether to show a bar.

    Returns
    -------
    DataFrame
        The rows of ``variants.table`` that are kept, indexed by their positions in the file, with ``frequency`` of the
        counted allele and ``missing``, the number of donors without a genotype.

    Raises
    ------
    InputError
        If a setting is out of range, or the file is not sorted.
    """
    _check_settings(window, step, r2)
    common(np.empty(0), maf)
    table = variants.table
    samples = np.arange(len(variants.samples)) if samples is None else np.asarray(samples)
    ranges = _chromosomes(table, str(variants.path))
    source: Any = variants if jobs == 1 else pickle.dumps(variants)
    tasks = [(source, start, stop, samples, maf, window, step, r2) for start, stop in ranges]
    found = spread(
        _prune_chromosome, tasks, jobs=jobs, title="LD pruning", progress=progress, size=_variants, total=len(table)
    )
    frequency, missing, often, kept = (np.concatenate(parts) for parts in zip(*found, strict=True))
    known = np.isfinite(frequency)
    ids = table["id"].to_numpy()
    ledger.keep("frequency", int(often.sum()))
    ledger.drop("frequency", ids[~known], "no genotype")
    ledger.drop("frequency", ids[known & ~often], f"minor-allele frequency below {maf:g}")
    ledger.keep("LD pruning", int(kept.sum()))
    ledger.drop("LD pruning", ids[often & ~kept], f"r² above {r2:g} in a window of {window}")
    place = np.flatnonzero(kept)
    return table.iloc[place].set_axis(place, axis="index").assign(frequency=frequency[place], missing=missing[place])


type _Found = tuple[Array, NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]
"""Of every variant of a chromosome: frequency, samples missing, whether it is common, whether it is kept."""


@lru_cache(maxsize=1)
def _opened(pickled: bytes) -> Variants:
    """The genotype file in a worker, opened once: its table is long, and a VCF's is dear to read."""
    variants: Variants = pickle.loads(pickled)  # noqa: S301 - made by this process's parent
    return variants


def _variants(found: _Found) -> int:
    return len(found[0])


def _prune_chromosome(
    source: Variants | bytes,
    start: int,
    stop: int,
    samples: NDArray[np.int64],
    maf: float,
    window: int,
    step: int,
    r2: float,
) -> _Found:
    """Read a chromosome in chunks and keep no more of it than the bits of common variants."""
    source = _opened(source) if isinstance(source, bytes) else source
    every = np.array_equal(samples, np.arange(len(source.samples)))
    bits, totals, counts = [], [], []
    for first in range(start, stop, _CHUNK):
        G = source.read(first, min(first + _CHUNK, stop))
        G = _by_variant(G if every else G[samples])
        total, count = _tally(G)
        bits.append(_pack(_round(G[_entering(_ratio(total, count), maf)], 0.1)))
        totals.append(total)
        counts.append(count)
    count = np.concatenate(counts)
    frequency = _ratio(np.concatenate(totals), count)
    entering = _entering(frequency, maf)
    kept = np.zeros(len(frequency), dtype=np.bool_)
    kept[entering] = _prune(np.concatenate(bits), frequency[entering], len(samples), window, step, r2)
    often = common(frequency, maf)
    return frequency, len(samples) - count, often, kept & often


def _entering(frequency: Array, maf: float) -> NDArray[np.bool_]:
    """Common variants, and those without any genotype: PLINK's ``--maf`` passes them, so its windows count them."""
    return common(frequency, maf) | np.isnan(frequency)


def _chromosomes(table: pd.DataFrame, where: str) -> Sequence[tuple[int, int]]:
    """Where each chromosome starts and stops in the file."""
    names = table["chromosome"].to_numpy()
    starts = np.flatnonzero(np.concatenate([[True], names[1:] != names[:-1]]))
    do = "sort the file by chromosome and position"
    twice = pd.Series(names[starts])
    expect(twice.is_unique, "each chromosome in one piece", listed(twice[twice.duplicated()]), where, do)
    down = np.diff(table["position"].to_numpy()) < 0
    down[starts[1:] - 1] = False
    got = listed(table["id"].to_numpy()[1:][down])
    expect(not down.any(), "variants in order of position", f"{got} before the one above", where, do)
    return list(pairwise([*starts.tolist(), len(names)]))


def _check_settings(window: int, step: int, r2: float) -> None:
    expect(window >= 2, "at least 2 variants", window, "window", "use 50, the paper's")
    expect(1 <= step <= window, f"1 <= step <= {window}", step, "step", "use 5, the paper's")
    expect(0.0 <= r2 < 1.0, "0 <= r2 < 1", r2, "r2", "use 0.2, the paper's")


def _by_variant(G: NDArray[Any]) -> NDArray[Any]:
    """(variant, sample) in memory: how files have them, and what the loops below run over."""
    return np.ascontiguousarray(G.T)


def _ratio(total: Array, count: NDArray[np.int64]) -> Array:
    frequency: Array = np.where(count > 0, total / np.maximum(2 * count, 1), np.nan)
    return frequency


@kernel
def _tally(G: NDArray[Any]) -> tuple[Array, NDArray[np.int64]]:
    """Copies of the allele and samples with a genotype, of each variant of G (variant, sample)."""
    p, n = G.shape
    total, count = np.zeros(p), np.zeros(p, dtype=np.int64)
    for j in range(p):
        copies, there = np.zeros(8), np.zeros(8)  # eight sums side by side: one alone waits for itself
        for i in range(0, n - n % 8, 8):
            for k in range(8):
                g = np.float64(G[j, i + k])
                known = g >= 0.0
                copies[k] += g if known else 0.0
                there[k] += 1.0 if known else 0.0
        for i in range(n - n % 8, n):
            g = np.float64(G[j, i])
            known = g >= 0.0
            copies[0] += g if known else 0.0
            there[0] += 1.0 if known else 0.0
        total[j], count[j] = copies.sum(), np.int64(there.sum())
    return total, count


@kernel
def _round(dosage: NDArray[Any], distance: float) -> NDArray[np.int8]:
    calls = np.empty(dosage.shape, dtype=np.int8)
    for j in range(dosage.shape[0]):
        for i in range(dosage.shape[1]):
            nearest = np.rint(dosage[j, i])
            near = abs(dosage[j, i] - nearest) <= distance + 1e-6 and 0.0 <= nearest <= 2.0
            calls[j, i] = np.int8(nearest) if near else np.int8(-1)
    return calls


@kernel
def _pack(calls: NDArray[np.int8]) -> NDArray[np.uint64]:
    """Bits (variant, plane, word) of calls (variant, sample), 64 samples a word."""
    p, n = calls.shape
    bits = np.zeros((p, 3, (n + 63) // 64), dtype=np.uint64)
    for j in range(p):
        for word in range(bits.shape[2]):
            hom = two = seen = np.uint64(0)
            for i in range(64 * word, min(64 * word + 64, n)):
                call, place = calls[j, i], np.uint64(i - 64 * word)
                hom |= np.uint64((call == 0) | (call == 2)) << place
                two |= np.uint64(call == 2) << place
                seen |= np.uint64(call >= 0) << place
            bits[j, _HOM, word], bits[j, _TWO, word], bits[j, _SEEN, word] = hom, two, seen
    return bits


@kernel
def _ones(word: Any) -> Any:
    """Count the bits of a word that are set: in pairs, in fours, in bytes, and their sum."""
    word -= (word >> np.uint64(1)) & np.uint64(0x5555555555555555)
    word = (word & np.uint64(0x3333333333333333)) + ((word >> np.uint64(2)) & np.uint64(0x3333333333333333))
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56))


@kernel
def _prune(
    bits: NDArray[np.uint64], frequency: Array, samples: int, window: int, step: int, r2: float
) -> NDArray[np.bool_]:
    p = len(bits)
    kept = np.ones(p, dtype=np.bool_)
    if p < 2:
        return kept
    n, total, square = _moments(bits)
    varies = square * n != total * total
    maf, limit = np.minimum(frequency, 1.0 - frequency), r2 * (1.0 + _SAME)
    live, untested = np.empty(window, dtype=np.int64), np.empty(window, dtype=np.int64)
    size = first = last = 0
    while first < p:
        for j in range(last, min(first + window, p)):  # those that the window has reached
            kept[j] = varies[j]
            if kept[j]:
                live[size], untested[size] = j, j + 1
                size += 1
        last = min(first + window, p)
        removed = True
        while removed:
            removed = False
            for a in range(size):
                i = live[a]
                if not kept[i]:
                    continue
                start, untested[a] = untested[a], last
                for b in range(a + 1, size):
                    j = live[b]
                    if j < start or not kept[j]:
                        continue
                    complete = n[i] == samples and n[j] == samples
                    if complete:
                        close = (
                            _r2_complete(bits[i], bits[j], samples, total[i], total[j], square[i], square[j]) > limit
                        )
                    else:
                        close = _r2_missing(bits[i], bits[j]) > limit
                    if close:
                        removed = True
                        if maf[i] < (1.0 - _SAME) * maf[j]:
                            kept[i] = False
                        else:
                            kept[j] = False
                            untested[a] = j + 1
                        break
        first += step
        left = 0
        for a in range(size):
            if kept[live[a]] and live[a] >= first:
                live[left], untested[left] = live[a], untested[a]
                left += 1
        size = left
    return kept


@kernel
def _moments(bits: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Samples with a call, Σ(x - 1) and Σ(x - 1)² of every variant."""
    n, total, square = np.zeros((3, len(bits)), dtype=np.int64)
    for j in range(len(bits)):
        for word in range(bits.shape[2]):
            hom = _ones(bits[j, _HOM, word])
            n[j] += _ones(bits[j, _SEEN, word])
            total[j] += 2 * _ones(bits[j, _TWO, word]) - hom
            square[j] += hom
    return n, total, square


@kernel
def _r2_complete(
    x: NDArray[np.uint64], y: NDArray[np.uint64], n: int, sum_x: int, sum_y: int, square_x: int, square_y: int
) -> float:
    """R² of two variants without missing calls, rounded where PLINK rounds."""
    product = 0
    for word in range(x.shape[1]):
        both = x[_HOM, word] & y[_HOM, word]
        product += _ones(both) - 2 * _ones(both & (x[_TWO, word] ^ y[_TWO, word]))  # Σ(x - 1)(y - 1)
    covariance = np.float64(product * n) - np.float64(sum_x) * np.float64(sum_y)
    scale_x = 1.0 / np.float64(square_x * n - sum_x * sum_x)
    scale_y = 1.0 / np.float64(square_y * n - sum_y * sum_y)
    return covariance * covariance * (scale_x * scale_y)


@kernel
def _r2_missing(x: NDArray[np.uint64], y: NDArray[np.uint64]) -> float:
    """R² of two variants over the samples with both calls, rounded where PLINK rounds; NaN if one does not vary."""
    n = product = sum_x = sum_y = square_x = square_y = 0
    for word in range(x.shape[1]):
        there = x[_SEEN, word] & y[_SEEN, word]
        hom_x, hom_y = x[_HOM, word] & there, y[_HOM, word] & there
        two_x, two_y = x[_TWO, word] & there, y[_TWO, word] & there
        n += _ones(there)
        product += _ones(hom_x & hom_y) - 2 * _ones(hom_x & hom_y & (two_x ^ two_y))
        ones_x, ones_y = _ones(hom_x), _ones(hom_y)
        square_x, square_y = square_x + ones_x, square_y + ones_y
        sum_x += 2 * _ones(two_x) - ones_x
        sum_y += 2 * _ones(two_y) - ones_y
    covariance = np.float64(product * n) - np.float64(sum_x) * np.float64(sum_y)
    scale = np.float64(square_x * n - sum_x * sum_x) * np.float64(square_y * n - sum_y * sum_y)
    return covariance * covariance * (1.0 / scale)
