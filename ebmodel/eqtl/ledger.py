"""The log that every step of a study keeps of what it dropped, and why."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from ebmodel.errors import listed

__all__ = ["Ledger"]


class Ledger:
    """What each step kept and dropped: names and reasons, in the order in which they came."""

    def __init__(self) -> None:
        self._dropped: dict[tuple[str, str], list[str]] = {}
        self._kept: dict[str, int] = {}

    def drop(self, step: str, names: Iterable[object], reason: str) -> None:
        """Note what a step dropped for one reason; more of the same are added."""
        found = [str(name) for name in names]
        if found:
            self._dropped.setdefault((step, reason), []).extend(found)

    def keep(self, step: str, count: int) -> None:
        """Note how many a step kept; more are added."""
        self._kept[step] = self._kept.get(step, 0) + count

    def names(self, step: str, reason: str) -> list[str]:
        """What a step dropped for a reason."""
        return list(self._dropped.get((step, reason), ()))

    def join(self, other: Ledger) -> None:
        """Add what another log holds, as that of a worker."""
        for (step, reason), names in other._dropped.items():
            self.drop(step, names, reason)
        for step, count in other._kept.items():
            self.keep(step, count)

    def table(self) -> pd.DataFrame:
        """One row a step and reason, after one for what the step kept: ``step, reason, count, examples``."""
        steps = dict.fromkeys([*self._kept, *(step for step, _ in self._dropped)])
        rows: list[tuple[str, str, int, str]] = []
        for step in steps:
            if step in self._kept:
                rows.append((step, "kept", self._kept[step], ""))
            rows.extend((step, reason, len(names), listed(names, 3))
                        for (where, reason), names in self._dropped.items() if where == step)  # fmt: skip
        return pd.DataFrame(rows, columns=["step", "reason", "count", "examples"])
