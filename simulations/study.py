"""A study: cells x replications, what is done in each, and how the results are shown.

A replication's random numbers come from a stream of its own, a function of (study, cell, replication) alone: results
are the same whatever the number of workers, their order, or how often the run was stopped and resumed.
"""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cloudpickle
import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect
from ebmodel.files import write_figure
from ebmodel.parallel import on_cluster, spread
from simulations.store import SECONDS, Cell, Record, Store, provenance
from simulations.tables import Table

if TYPE_CHECKING:  # they import studies themselves
    from simulations.estimators import Estimator
    from simulations.metrics import Metric

RESULTS = Path(__file__).parent / "results"
RHOS = (0.0, 0.2, 0.4, 0.6, 0.8)
SIGNALS = (0.5, 1.0, 2.0)


def paper_cells(settings: Iterable[int] = (1, 3)) -> list[Cell]:
    """The 15 cells of each setting: rho x signal (Section 6 of the paper)."""
    return [{"setting": k, "rho": rho, "signal": signal} for k, rho, signal in product(settings, RHOS, SIGNALS)]


class Replicate(Protocol):
    """What is done in one replication, in parts that are run, timed and stored each on its own."""

    @property
    def parts(self) -> Sequence[str]:
        """Their names."""
        ...

    def wants(self, part: str, cell: Cell, replication: int) -> bool:
        """Whether a part is run there at all."""
        ...

    def __call__(self, cell: Cell, stream: np.random.SeedSequence, parts: Sequence[str]) -> Mapping[str, Record]:
        """Results of the parts asked for: part -> metric -> value, and ``seconds``."""
        ...


@dataclass(frozen=True)
class Comparison:
    """Estimators applied to the same data and judged by the same metrics: most studies are this.

    Parameters
    ----------
    data
        ``(cell, stream) -> Dataset`` with the truth, as `ebmodel.simulate` gives it.
    estimators
        Name -> ``(dataset, stream) -> Estimate``.
    metrics
        Name -> ``(estimate, dataset) -> float``, or a mapping of several.
    only
        Name of an estimator -> ``(cell, replication) -> bool``: where it is run, if not everywhere.
    """

    data: Callable[[Cell, np.random.SeedSequence], xr.Dataset]
    estimators: Mapping[str, Estimator]
    metrics: Mapping[str, Metric]
    only: Mapping[str, Callable[[Cell, int], bool]] = field(default_factory=dict)

    @property
    def parts(self) -> Sequence[str]:
        """The estimators' names."""
        return list(self.estimators)

    def wants(self, part: str, cell: Cell, replication: int) -> bool:
        """Whether an estimator is run there."""
        return part not in self.only or self.only[part](cell, replication)

    def __call__(self, cell: Cell, stream: np.random.SeedSequence, parts: Sequence[str]) -> dict[str, Record]:
        """Every metric of every estimator asked for, on one data set."""
        data, found = self.data(cell, stream), {}
        for name in parts:
            start = time.perf_counter()
            # an estimator's own stream does not depend on which others are run
            estimate = self.estimators[name](data, child(stream, name))
            seconds = time.perf_counter() - start
            record: dict[str, float] = {}
            for metric, judge in self.metrics.items():
                value = judge(estimate, data)
                record |= value if isinstance(value, Mapping) else {metric: value}
            found[name] = record | {SECONDS: seconds}
        return found


@dataclass(frozen=True)
class Whole:
    """A replication in one part: whatever ``function`` gives."""

    function: Callable[[Cell, np.random.SeedSequence], Record]
    parts: Sequence[str] = ("all",)

    def wants(self, part: str, cell: Cell, replication: int) -> bool:  # noqa: ARG002
        """Everywhere."""
        return True

    def __call__(self, cell: Cell, stream: np.random.SeedSequence, parts: Sequence[str]) -> dict[str, Record]:
        """Call it, timed."""
        start = time.perf_counter()
        record = self.function(cell, stream)
        return {part: {**record, SECONDS: time.perf_counter() - start} for part in parts}


@dataclass(frozen=True)
class Study:
    """What to run (``replicate``), where (``cells``), how often, and how to show it (``table``, ``figure``)."""

    name: str
    cells: Sequence[Cell]
    replications: int
    replicate: Replicate
    table: Callable[[pd.DataFrame], str] | None = None
    figure: Callable[[pd.DataFrame], Figure] | None = None
    batch: int = 1
    """Replications that a worker does before it reports: more than one where they are fast."""
    folder: Path = field(default_factory=lambda: RESULTS)
    tables: Callable[[pd.DataFrame], Sequence[Table]] | None = None
    """Tables too long for a README: `write_tables` puts them beside the results."""

    def __post_init__(self) -> None:
        for part in (self.name, *self.replicate.parts):
            do = "use letters, digits, _ and -"
            expect(bool(re.fullmatch(r"[\w-]+", part)), "a name fit for a folder", repr(part), "Study", do)
        expect(len(self.cells) > 0, "at least one cell", "none", f"Study {self.name!r}", "give cells")

    @property
    def store(self) -> Store:
        """Where the results are."""
        return Store(self.folder / f"{self.name}.zarr")

    def stream(self, cell: Cell, replication: int) -> np.random.SeedSequence:
        """Random stream of one replication: a function of study, cell and replication alone, whatever the workers."""
        return np.random.SeedSequence([_word(self.name), *map(_word, cell.values()), replication])

    def records(self, cell: Cell, replication: int, parts: Sequence[str] | None = None) -> Mapping[str, Record]:
        """Results of one replication: part -> metric -> value.

        Raises
        ------
        InputError
            If the replication fails; with its cell and number, so that it can be run alone.
        """
        stream = self.stream(cell, replication)
        if parts is None:
            parts = [part for part in self.replicate.parts if self.replicate.wants(part, cell, replication)]
        try:
            return self.replicate(cell, stream, parts)
        except InputError as error:
            where = f"study {self.name!r}, cell {dict(cell)}, replication {replication}"
            do = "study.records(cell, replication) to see it alone"
            raise InputError("a replication that runs", f"({error})", where, do) from error

    def results(self) -> xr.Dataset:
        """Stored results, of whatever cells: every metric as a variable (cell, replication, part)."""
        stored = self.store.read()
        return stored.sel(part=[part for part in self.replicate.parts if part in stored["part"].to_numpy()])

    def read(self) -> pd.DataFrame:
        """Stored results, a row for every finished replication, columns ``metric_part`` (``metric``, of one part).

        Raises
        ------
        InputError
            If nothing is stored, or results of other cells.
        """
        results, tables = self.results(), []
        self.store.check(self.cells)
        for part in results["part"].to_numpy():
            table = results.sel(part=part).drop_vars("part").to_dataframe(["cell", "replication"])
            table = table[np.isfinite(table[SECONDS])].dropna(axis=1, how="all")
            tables.append(self._labelled(table, part))
        keys = list(self.cells[0])
        joined = pd.concat(tables, axis=1).sort_index().reset_index()
        where = pd.DataFrame([self.cells[i] for i in joined["cell"]])[keys]
        return pd.concat([where, joined.drop(columns="cell")], axis=1)

    def row(self, cell: Cell, replication: int) -> dict[str, Any]:
        """Run one replication and give it as a row of `read`."""
        found = [self._labelled(pd.DataFrame([dict(r)]), part) for part, r in self.records(cell, replication).items()]
        return {**cell, "replication": replication, **pd.concat(found, axis=1).iloc[0]}

    def run(
        self, replications: int | None = None, jobs: int = -1, scheduler: str | None = None, *, progress: bool = True
    ) -> pd.DataFrame:
        """Run what is not stored yet, and store every replication as it is finished.

        Parameters
        ----------
        replications
            In every cell; the study's own number if not given.
        jobs
            Processes on this machine; -1 for all cores.
        scheduler
            Address of a Dask scheduler to run on instead, ``tcp://host:port``; its workers need this package.
        progress
            Whether to show a bar with the time left.

        Raises
        ------
        InputError
            If the store belongs to another study or process, the scheduler does not answer, or a replication fails.
        """
        replications = self.replications if replications is None else replications
        expect(replications >= 1, "at least 1", replications, "replications", "leave the study's own number")
        run = {"started": _now(), "replications": replications, "scheduler": scheduler or "", **self._settings()}
        with (
            on_cluster(scheduler, "--scheduler"),
            self.store.writer(self.name, self.cells, replications, run) as writer,
        ):
            sent = cloudpickle.dumps(self)  # by value where workers cannot import it: a notebook's, a user's file
            tasks = [(sent, *task) for task in self._tasks(replications)]
            total = sum(len(numbers) for _, _, numbers, _ in tasks)
            done = spread(
                _batch, tasks, jobs=jobs, title=self.name, progress=progress, ordered=False, total=total,
                size=lambda result: len(result[1]),
            )  # fmt: skip
            for cell, numbers, records in done:
                for part in records[0]:
                    writer.add(part, cell, numbers, [record[part] for record in records])
            writer.end(finished=_now(), new=total)
        return self.read()

    def draw(self) -> Path | None:
        """Draw the figure, if the study has one, beside its results."""
        if self.figure is None:
            return None
        path = self.folder / f"{self.name}.png"
        return write_figure(path, self.figure(self.read()))

    def write_tables(self) -> None:
        """Write the long tables as Markdown, LaTeX and CSV."""
        for table in self.tables(self.read()) if self.tables else ():
            table.write(self.folder / "tables")

    def lacking(self, replications: int) -> dict[str, NDArray[np.bool_]]:
        """What is still to be run: part -> (cell, replication)."""
        found = {}
        for part in self.replicate.parts:
            wanted = [[self.replicate.wants(part, cell, i) for i in range(replications)] for cell in self.cells]
            done = self.store.finished(part, replications) if self.store.exists else np.zeros_like(wanted)
            found[part] = np.array(wanted, dtype=bool) & ~done
        return found

    def _tasks(self, replications: int) -> list[tuple[int, list[int], list[str]]]:
        """Batches of replications of one cell that lack the same parts; first numbers first, over all cells."""
        lacks = self.lacking(replications)
        tasks: list[tuple[int, list[int], list[str]]] = []
        for first in range(0, replications, self.batch):
            for cell in range(len(self.cells)):
                lacking: dict[tuple[str, ...], list[int]] = {}
                for i in range(first, min(first + self.batch, replications)):
                    parts = tuple(part for part, open_ in lacks.items() if open_[cell, i])
                    lacking.setdefault(parts, []).append(i)
                tasks += [(cell, numbers, list(parts)) for parts, numbers in lacking.items() if parts]
        return tasks

    def _settings(self) -> dict[str, Any]:
        streams = "numpy SeedSequence of (crc32 of the study's name, 1000 x each of the cell's values, replication)"
        return {"parts": list(self.replicate.parts), "streams": streams, **provenance()}

    def _labelled(self, table: pd.DataFrame, part: str) -> pd.DataFrame:
        """Columns ``metric_part``; keys are left alone."""
        if len(self.replicate.parts) == 1:
            return table.drop(columns=[key for key in self.cells[0] if key in table])
        return table.drop(columns=[key for key in self.cells[0] if key in table]).add_suffix(f"_{part}")


def child(stream: np.random.SeedSequence, name: str) -> np.random.SeedSequence:
    """The stream of a part with that name; others' do not depend on it."""
    return np.random.SeedSequence(stream.entropy, spawn_key=(*stream.spawn_key, _word(name)))


def _word(value: float | str) -> int:
    """A cell's value, or a name, as entropy."""
    return zlib.crc32(value.encode()) if isinstance(value, str) else round(1000 * value) % 2**32


def _batch(
    sent: bytes, cell: int, numbers: list[int], parts: list[str]
) -> tuple[int, list[int], list[Mapping[str, Record]]]:
    """Some replications of a cell; runs in a worker."""
    study = _received(sent)
    return cell, numbers, [study.records(study.cells[cell], i, parts) for i in numbers]


@lru_cache(maxsize=1)
def _received(sent: bytes) -> Study:
    return cloudpickle.loads(sent)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
