"""A study: cells x replications of one function, each with a random stream of its own, stored as one CSV."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from matplotlib.figure import Figure
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ebmodel.files import writing

RESULTS = Path(__file__).parent / "results"
RHOS = (0.0, 0.2, 0.4, 0.6, 0.8)
SIGNALS = (0.5, 1.0, 2.0)

type Cell = dict[str, float | int]
type Row = dict[str, float | int | str]


def paper_cells(settings: Iterable[int] = (1, 3)) -> list[Cell]:
    """The 15 cells of each setting: rho x signal (Section 6 of the paper)."""
    return [{"setting": k, "rho": rho, "signal": signal} for k, rho, signal in product(settings, RHOS, SIGNALS)]


@dataclass(frozen=True)
class Study:
    """What to run (``replicate``), where (``cells``), how often, and how to show it (``table``)."""

    name: str
    cells: list[Cell]
    replications: int
    replicate: Callable[[Cell, np.random.SeedSequence], list[Row]]
    table: Callable[[pd.DataFrame], str]
    figure: Callable[[pd.DataFrame], Figure] | None = None

    @property
    def path(self) -> Path:
        """Where the results are stored."""
        return RESULTS / f"{self.name}.csv"

    def stream(self, cell: Cell, replication: int) -> np.random.SeedSequence:
        """Random stream of one replication: a function of study, cell and replication alone, whatever the workers."""
        return np.random.SeedSequence(
            [zlib.crc32(self.name.encode()), *(round(1000 * value) for value in cell.values()), replication]
        )

    def rows(self, cell: Cell, replication: int) -> list[Row]:
        """Results of one replication, labelled by cell and replication."""
        found = self.replicate(cell, self.stream(cell, replication))
        return [{**cell, "replication": replication, **row} for row in found]

    def read(self) -> pd.DataFrame:
        """Read the stored results."""
        return pd.read_csv(self.path)

    def run(self, replications: int, jobs: int) -> pd.DataFrame:
        """Run what is not stored yet, saving after every replication of all cells."""
        table = self.read() if self.path.exists() else pd.DataFrame()
        done = set() if table.empty else set(table[[*self.cells[0], "replication"]].itertuples(index=False, name=None))
        todo = [(cell, i) for i in range(replications) for cell in self.cells if (*cell.values(), i) not in done]
        columns = [TextColumn(self.name), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
        with Progress(*columns) as progress, Parallel(n_jobs=jobs, return_as="generator") as parallel:
            bar, fresh = progress.add_task(self.name, total=len(todo)), []
            for i, rows in enumerate(parallel(delayed(self.rows)(cell, i) for cell, i in todo), start=1):
                fresh.extend(rows)
                progress.advance(bar)
                if i % len(self.cells) == 0 or i == len(todo):
                    table = self._save(table, fresh)
                    fresh = []
        return table

    def draw(self) -> Path | None:
        """Draw the figure, if the study has one, beside its results."""
        if self.figure is None:
            return None
        path = self.path.with_suffix(".png")
        with writing(path) as temporary:
            self.figure(self.read()).savefig(temporary, dpi=130, format="png")
        return path

    def _save(self, table: pd.DataFrame, fresh: list[Row]) -> pd.DataFrame:
        table = pd.concat([table, pd.DataFrame(fresh)], ignore_index=True)
        table = table.sort_values([*self.cells[0], "replication"], kind="stable", ignore_index=True)
        RESULTS.mkdir(exist_ok=True)
        with writing(self.path) as temporary:
            table.to_csv(temporary, index=False, float_format="%.10g")
        return table


def markdown(header: list[str], rows: Iterable[list[str]]) -> str:
    """A Markdown table, the first column left-aligned."""
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
