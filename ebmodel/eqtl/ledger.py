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
        """Note what a step dropped for one reason; more of the same are added.

        Parameters
        ----------
        step
            Of the study, such as ``"LD pruning"``.
        names
            Of what was dropped.
        reason
            Why.
        """
        found = [str(name) for name in names]
        if found:
            self._dropped.setdefault((step, reason), []).extend(found)

    def keep(self, step: str, count: int) -> None:
        """Note how many a step kept; more are added.

        Parameters
        ----------
        step
            Of the study.
        count
            How many.
        """
        self._kept[step] = self._kept.get(step, 0) + count

    def names(self, step: str, reason: str) -> list[str]:
        """Give what a step dropped for a reason.

        Parameters
        ----------
        step
            Of the study.
        reason
            As it was noted.

        Returns
        -------
        list of str
            Names, in the order in which they came.
        """
        return list(self._dropped.get((step, reason), ()))

    def join(self, other: Ledger) -> None:
        """Add what another log holds, as that of a worker.

        Parameters
        ----------
        other
            It stays as it is.
        """
        for (step, reason), names in other._dropped.items():
            self.drop(step, names, reason)
        for step, count in other._kept.items():
            self.keep(step, count)

    def table(self) -> pd.DataFrame:
        """Give all that was noted as a table.

        Returns
        -------
        DataFrame
            ``step``, ``reason``, ``count`` and ``examples``: a row for every step and reason, after one, ``kept``, for
            what the step kept.
        """
        steps = dict.fromkeys([*self._kept, *(step for step, _ in self._dropped)])
        rows: list[tuple[str, str, int, str]] = []
        for step in steps:
            if step in self._kept:
                rows.append((step, "kept", self._kept[step], ""))
            rows.extend((step, reason, len(names), listed(names, 3))
                        for (where, reason), names in self._dropped.items() if where == step)  # fmt: skip
        return pd.DataFrame(rows, columns=["step", "reason", "count", "examples"])
