"""What a discrepancy gives."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Value", "cannot"]


class Value(NamedTuple):
    """A discrepancy on one data set."""

    statistic: float
    """The larger, the worse; nan where it cannot be computed."""
    effect: float
    """How large the violation is, in the units that ``words`` say."""
    words: str
    """A sentence with a place {} for ``effect``; why not, where the statistic is nan."""

    @property
    def sentence(self) -> str:
        """The effect in plain words."""
        return self.words.format(f"{self.effect:.2g}") if np.isfinite(self.statistic) else self.words


def cannot(why: str) -> Value:
    """There is nothing to check the assumption by."""
    return Value(np.nan, np.nan, why)
