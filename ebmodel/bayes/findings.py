"""What a comparison of EM and posterior comes to, in words: each sentence is there because the numbers say so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from ebmodel.labels import QUANTITY

__all__ = ["APART", "findings"]

APART = 0.1
"""Probabilities further apart than this differ."""
UNDECIDED = (0.05, 0.95)
"""P(I=1) of a tissue that the posterior leaves undecided."""
WIDTH = 0.05
"""Intervals whose widths agree to this share are as wide."""
MOST = 2.0 / 3.0
"""A share above which a difference counts as concentrated."""
SHARE = 0.1
"""Of the posterior variance, above which a cause is named."""


def findings(comparison: xr.Dataset) -> str:
    """One paragraph on how EM and posterior differ, where, and why.

    Parameters
    ----------
    comparison
        As from `ebmodel.compare`.
    """
    sentences = [
        *_trust(str(comparison.attrs["verdict"])),
        *_probabilities(_of(comparison, "probability")),
        *_hyperparameters(_of(comparison, "hyperparameter"), comparison.attrs["level"]),
        *_effects(_of(comparison, "effect")),
        *_widths(comparison),
    ]
    return " ".join(sentences)


def _of(comparison: xr.Dataset, kind: str) -> xr.Dataset:
    return comparison.isel({QUANTITY: np.flatnonzero(comparison["kind"] == kind)})


def _trust(verdict: str) -> list[str]:
    if verdict.startswith("Sound"):
        return []
    return [f"The draws are not to be trusted as they are, nor is what follows. {verdict}"]


def _probabilities(P: xr.Dataset) -> list[str]:
    """How many tissues differ, the most of them, and whether the EM is the more confident."""
    em, mean, names, m = P["em"].to_numpy(), P["mean"].to_numpy(), P["tissue"].to_numpy(), P.sizes[QUANTITY]
    gap = np.abs(em - mean)
    far, worst = gap > APART, int(gap.argmax())
    most = f"{names[worst]}, {em[worst]:.2f} by EM and {mean[worst]:.2f} in the posterior"
    if not far.any():
        return [f"P(I=1) of EM and posterior agree to within {max(gap.max(), 0.001):.2g} in {_all(m, 'tissue')}."]
    sentences = [f"P(I=1) differs by more than {APART} in {_some(far.sum(), m, 'tissue')}, the most in {most}."]
    surer = np.abs(em - 0.5) > np.abs(mean - 0.5)
    more, less = int((far & surer).sum()), int((far & ~surer).sum())
    where = {1: "there", 2: "in both"}.get(int(far.sum()), "in all of these")
    if not (more and less):
        sentences.append(f"EM is the {'more' if more else 'less'} confident, nearer 0 or 1, {where}.")
    else:
        sentences.append(f"EM is the more confident, nearer 0 or 1, in {more} of them and the less in {less}.")
    change = em.sum() - mean.sum()
    if abs(change) > 0.5:
        sentences.append(f"EM expects {em.sum():.1f} active tissues, the posterior {mean.sum():.1f}.")
    noisy = far & (gap < 3 * P["mcse"].to_numpy())
    if noisy.any():
        sentences.append(f"In {_some(noisy.sum(), int(far.sum()), 'of these')} Monte-Carlo error may be the cause.")
    return sentences


def _hyperparameters(H: xr.Dataset, level: float) -> list[str]:
    """Where the EM's values stand in their posterior intervals."""
    side = _side(H)
    inside = [name for name, where in side.items() if not where]
    sentences = []
    parts = []
    for name, where in side.items():
        if where:
            one = H.sel({QUANTITY: name})
            value = f"{float(one['em']):.3g}"
            if name in BOUNDARIES and float(one["em"]) in BOUNDARIES[name]:
                value += ", on the boundary"
            parts.append(f"{name} ({value}) lies {where} its interval, {one['lower']:.3g} to {one['upper']:.3g}")
    interval = f"{100 * level:g} % posterior interval"
    if parts:
        sentences.append(f"Against the {interval}s, the EM's {_and(parts)}.")
    if inside:
        those = f"The EM's {_and(inside)}" if not parts else _and(inside)
        lie = "lies inside its" if len(inside) == 1 else "lie inside their"
        sentences.append(f"{those} {lie} {interval + 's' * (len(inside) > 1) if not parts else 'own'}.")
    return sentences


BOUNDARIES = {"tau1": (0.0, 1.0), "eta": (0.0,)}


def _side(H: xr.Dataset) -> dict[str, str]:
    """'below', 'above' or '' for each hyperparameter: where the EM's value stands against the interval."""
    em, lower, upper = (H[name].to_numpy() for name in ("em", "lower", "upper"))
    side = np.where(em < lower, "below", np.where(em > upper, "above", ""))
    return {str(name): str(where) for name, where in zip(H[QUANTITY].to_numpy(), side, strict=True)}


def _effects(E: xr.Dataset) -> list[str]:
    """How far the estimates are apart, and how many are told from 0."""
    z = np.abs(E["difference"].to_numpy())
    total, far = E.sizes[QUANTITY], int(np.nansum(z > 1.0))
    sentences = []
    if far:
        worst = E.isel({QUANTITY: int(np.nanargmax(z))})
        most = f"{worst['snp'].item()} in {worst['tissue'].item()}, by {np.nanmax(z):.1f}"
        sentences.append(f"{far} of {total} effects differ by more than one posterior sd, the most {most}.")
    counts = [int(((E[f"{em}lower"] > 0) | (E[f"{em}upper"] < 0)).sum()) for em in ("em_", "")]
    if abs(counts[0] - counts[1]) > WIDTH * total:
        sentences.append(
            f"{counts[0]} of the EM's intervals of effects leave out 0, and {counts[1]} of the posterior's."
        )
    return sentences


def _widths(comparison: xr.Dataset) -> list[str]:
    """How the widths of the effects' intervals compare, where they differ, and why."""
    E, P = _of(comparison, "effect"), _of(comparison, "probability")
    em, full = (E[f"{which}upper"].to_numpy() - E[f"{which}lower"].to_numpy() for which in ("em_", ""))
    level = f"{100 * comparison.attrs['level']:g} % intervals"
    if not full.sum() > 0.0:
        return [f"All of the posterior's {level} of effects are 0 alone."] if not em.any() else []
    overall = em.sum() / full.sum() - 1.0
    if abs(overall) < WIDTH:
        sentences = [f"The EM's {level} of effects are, taken together, as wide as the posterior's."]
    else:
        sentences = [f"The EM's {level} of effects are, taken together, {_wider(overall)} than the posterior's."]
    sentences += _places(E, P, em, full, overall)
    return sentences + (_causes(comparison, overall) if abs(overall) >= WIDTH else [])


def _places(E: xr.Dataset, P: xr.Dataset, em: np.ndarray, full: np.ndarray, overall: float) -> list[str]:
    """Tell undecided tissues from decided ones where that explains the difference, or where the two cancel."""
    low, high = UNDECIDED
    chance = dict(zip(P["tissue"].to_numpy(), P["mean"].to_numpy(), strict=True))
    h = np.array([chance[tissue] for tissue in E["tissue"].to_numpy()])
    open_, m = (low < h) & (h < high), int(((P["mean"] > low) & (P["mean"] < high)).sum())
    if not open_.any() or open_.all() or not full[open_].sum() or not full[~open_].sum():
        return []
    change = [em[which].sum() / full[which].sum() - 1.0 for which in (open_, ~open_)]
    undecided = f"{m} {_plural(m, 'tissue')} that the posterior leaves undecided ({low} < P(I=1) < {high})"
    if max(np.abs(change)) < WIDTH:
        return []
    if change[0] * change[1] < 0.0 and min(np.abs(change)) >= WIDTH:
        return [f"They are {_wider(change[0])} in the {undecided} and {_wider(change[1])} in the others."]
    share = (em - full)[open_].sum() / (em - full).sum()
    if abs(overall) < WIDTH:
        return []
    for part, where, own in ((share, f"the {undecided}", change[0]), (1 - share, "the decided tissues", change[1])):
        if part > MOST:
            return [f"{_percent(min(part, 1.0))} of the difference is in {where}, where they are {_wider(own)}."]
    return []


def _causes(comparison: xr.Dataset, overall: float) -> list[str]:
    """What the numbers offer as a reason for intervals too narrow or too wide."""
    E, H = _of(comparison, "effect"), _of(comparison, "hyperparameter")
    weight = E["sd"].to_numpy() ** 2
    left_out = float((weight * E["left_out"]).sum() / weight.sum()) if weight.any() else 0.0
    side, em = _side(H), H["em"].to_series()
    narrow = overall < 0.0
    causes = []
    if narrow and left_out >= SHARE:
        share = f"{_percent(left_out)} of the effects' posterior variance"
        causes.append(f"it leaves out the uncertainty of the hyperparameters, {share}")
    if narrow and em["eta"] == 0.0:
        causes.append("its eta is 0, which gives all active tissues one effect, known exactly")
    elif side["eta"] == ("below" if narrow else "above"):
        causes.append(f"its eta is {'smaller' if narrow else 'larger'} than the data require")
    for name, what in (("sigma2", "noise"), ("tau1", "share of active tissues")):
        if side.get(name) == ("below" if narrow else "above"):
            causes.append(f"its {what}, {name}, is {side[name]} the posterior's interval")
    far = np.abs(_of(comparison, "probability")["em"] - _of(comparison, "probability")["mean"]) > APART
    if far.any():
        causes.append("its P(I=1) differ")
    return [f"Reasons in the numbers: {'; '.join(causes)}."] if causes else []


def _wider(change: float) -> str:
    if abs(change) < WIDTH:
        return "as wide"
    return f"{_percent(abs(change))} {'wider' if change > 0 else 'narrower'}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _some(count: int, total: int, word: str) -> str:
    return f"{count} of {total} {_plural(total, word)}" if count < total else _all(total, word)


def _all(total: int, word: str) -> str:
    return f"the one {word}" if total == 1 else f"all {total} {_plural(total, word)}"


def _plural(count: int, word: str) -> str:
    return word if count == 1 or word.startswith("of ") else f"{word}s"


def _and(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
