"""Results of a study as a Zarr store: safe against being killed at any moment, and saying where they come from.

    study.zarr/                 attributes: study, cells, and for every run its versions, times and settings
        setting, rho, …         (cell) what each cell is
        <part>/value            (cell, replication, metric); one part is one estimator's results
        <part>/metric           names; the last, ``seconds``, is the time it took

A chunk holds one part's results in one cell and is replaced in one step, so that a replication is stored whole or not
at all: it is finished if its ``seconds`` are a number. Only one process writes, the one that holds the lock.
"""

from __future__ import annotations

import fcntl
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray

from ebmodel.errors import InputError, expect, listed
from ebmodel.files import writing

CHUNK = 100
"""Replications in a chunk."""
SECONDS = "seconds"
DIMS = ("cell", "replication", "metric")
PACKAGES = ("ebmodel", "numpy", "scipy", "numba", "xarray", "scikit-learn", "pymc", "nutpie", "joblib", "zarr")

type Cell = dict[str, float | int | str]
type Record = Mapping[str, float]


class Store:
    """The results of one study on disk, opened for reading or, inside `writer`, for writing."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def exists(self) -> bool:
        """Whether anything is stored."""
        return (self.path / "zarr.json").exists()

    @property
    def parts(self) -> list[str]:
        """Names of the stored parts."""
        return sorted(child.name for child in self.path.iterdir() if (child / "value").is_dir()) if self.exists else []

    @property
    def attrs(self) -> dict[str, Any]:
        """Study, cells and runs."""
        return dict(zarr.open_group(self.path, mode="r").attrs)

    def finished(self, part: str, replications: int) -> NDArray[np.bool_]:
        """Which replications are stored, (cell, replication)."""
        cells = len(self.attrs["cells"])
        done = np.zeros((cells, replications), dtype=bool)
        if part in self.parts:
            value = zarr.open_array(self.path / part / "value", mode="r")
            seconds = value[:, :replications, -1]
            done[:, : seconds.shape[1]] = np.isfinite(seconds)
        return done

    def check(self, cells: Sequence[Cell]) -> None:
        """Whether what is stored are these cells' results.

        Raises
        ------
        InputError
            If they are another study's.
        """
        same = self.attrs["cells"] == [dict(cell) for cell in cells]
        expect(same, "the cells of the study", "others", str(self.path), "move it away, or name the study anew")

    def read(self) -> xr.Dataset:
        """Every metric as a variable (cell, replication, part); what a cell is, as coordinates of ``cell``.

        Raises
        ------
        InputError
            If nothing is stored.
        """
        expect(self.exists and bool(self.parts), "results of a study", "none", str(self.path), "run the study")
        with xr.open_datatree(self.path, engine="zarr", consolidated=False) as tree:
            root = tree.to_dataset().load()
            values = {name: tree[name]["value"].load() for name in self.parts}
        most = max(value.sizes["replication"] for value in values.values())
        found = []
        for name, value in values.items():
            numbered = value.assign_coords(replication=np.arange(value.sizes["replication"]))
            metrics = numbered.to_dataset("metric").reindex(replication=np.arange(most))
            found.append(metrics.expand_dims(part=[name]))
        return xr.merge(found, join="outer", compat="no_conflicts").assign_coords(root.coords).assign_attrs(root.attrs)

    @contextmanager
    def writer(self, name: str, cells: Sequence[Cell], replications: int, run: Mapping[str, Any]) -> Iterator[Writer]:
        """Hold the store for one process's writing, made if there is none, with room for the replications.

        Raises
        ------
        InputError
            If another process holds it, or it holds a study with other cells.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with (self.path.parent / f".{self.path.name}.lock").open("w") as lock:
            try:
                # let go by the system when the process ends, killed too
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                do = "wait for it, or give another --out"
                raise InputError("a store of one's own", "one that another run writes", str(self.path), do) from error
            for left in self.path.parent.glob(f".{self.path.name}.*.part"):  # of a run that was killed
                shutil.rmtree(left)
            if not self.exists:
                self._create(name, cells)
            self.check(cells)
            yield Writer(self.path, replications, run)

    def _create(self, name: str, cells: Sequence[Cell]) -> None:
        coords = {key: ("cell", np.array([cell[key] for cell in cells])) for key in cells[0]}
        attrs = {"study": name, "cells": json.loads(json.dumps(cells)), "runs": []}
        with writing(self.path) as temporary:
            xr.Dataset(coords=coords, attrs=attrs).to_zarr(temporary, zarr_format=3, consolidated=False)


class Writer:
    """Adds results; keeps what it has written in memory, so that a chunk is written without being read."""

    def __init__(self, path: Path, replications: int, run: Mapping[str, Any]) -> None:
        self.path, self.replications = path, replications
        self.group = zarr.open_group(path, mode="r+")
        self.values: dict[str, zarr.Array] = {}
        self.chunks: dict[tuple[str, int, int], NDArray[np.float64]] = {}
        self.group.attrs["runs"] = [*self.group.attrs["runs"], dict(run)]

    def end(self, **facts: Any) -> None:
        """Note how the run ended."""
        runs = list(self.group.attrs["runs"])
        runs[-1] |= facts
        self.group.attrs["runs"] = runs

    def add(self, part: str, cell: int, replications: Sequence[int], records: Sequence[Record]) -> None:
        """Store one part's records of some replications of a cell.

        Raises
        ------
        InputError
            If they have other metrics than those stored.
        """
        names = list(records[0])
        if part not in self.values:
            self.values[part] = self._open(part, names)
            stored = zarr.open_array(self.path / part / "metric", mode="r")[:]
            same, do = list(stored) == names, "move the store away, or name the study or the estimator anew"
            expect(same, f"metrics {listed(stored, 99)}", listed(names, 99), f"{part!r} of {self.path}", do)
        value = self.values[part]
        for block in sorted({i // CHUNK for i in replications}):
            chunk = self._chunk(part, cell, block)
            for i, record in zip(replications, records, strict=True):
                if i // CHUNK == block:
                    chunk[i % CHUNK] = [record[name] for name in names]
            first = block * CHUNK
            value[cell, first : first + CHUNK] = chunk[: value.shape[1] - first]

    def _open(self, part: str, names: list[str]) -> zarr.Array:
        folder = self.path / part
        if not folder.exists():
            temporary = self.path.parent / f".{self.path.name}.{part}.part"
            shape = len(self.group.attrs["cells"]), self.replications, len(names)
            node = zarr.create_group(temporary)
            node.create_array(
                "value", shape=shape, chunks=(1, CHUNK, len(names)), dtype="f8", fill_value=np.nan,
                dimension_names=DIMS,
            )  # fmt: skip
            metric = node.create_array("metric", shape=len(names), dtype=str, dimension_names=DIMS[2:])
            metric[:] = np.array(names, dtype=object)
            temporary.rename(folder)
        value = zarr.open_array(folder / "value", mode="r+")
        if value.shape[1] < self.replications:
            value.resize((value.shape[0], self.replications, value.shape[2]))
        return value

    def _chunk(self, part: str, cell: int, block: int) -> NDArray[np.float64]:
        key = part, cell, block
        if key not in self.chunks:
            self.chunks[key] = np.full((CHUNK, self.values[part].shape[2]), np.nan)
            stored = self.values[part][cell, block * CHUNK : (block + 1) * CHUNK]
            self.chunks[key][: len(stored)] = stored
        return self.chunks[key]


def provenance() -> dict[str, Any]:
    """Versions and machine that results were made with."""
    return {
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "machine": f"{platform.system()} {platform.machine()}",
    }
