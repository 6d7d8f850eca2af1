"""The one way to run in parallel: on this machine, and on a cluster that cannot be had."""

from __future__ import annotations

import operator
from pathlib import Path

import dask.base
import pytest
import xarray as xr

from ebmodel.errors import InputError
from ebmodel.files import write_dataset
from ebmodel.parallel import on_cluster, spread


def test_results_come_in_the_order_of_tasks():
    tasks = [(number, 1) for number in range(20)]
    assert list(spread(operator.add, tasks, jobs=2, title="sums", progress=False)) == list(range(1, 21))


def test_no_processes_are_refused():
    with pytest.raises(InputError, match="expected a number of processes, or -1 for all cores, got 0, in jobs"):
        list(spread(operator.add, [(1, 1)], jobs=0, title="sums", progress=False))


def test_no_cluster_is_this_machine():
    with on_cluster(None, "--cluster"):
        assert list(spread(operator.add, [(1, 1)], jobs=1, title="sums", progress=False)) == [2]


@pytest.mark.parametrize("address", ["nowhere://x", "tcp://127.0.0.1:9", "tcp://no-such-host.invalid:1", ""])
def test_a_cluster_that_cannot_be_had_leaves_nothing_behind(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Neither a default client nor its locks: xarray takes those of any client there is to write a file."""
    monkeypatch.setattr("ebmodel.parallel.PATIENCE", 0.3)
    with (
        pytest.raises(InputError, match=r"expected a Dask scheduler that answers, got .*, in --cluster"),
        on_cluster(address, "--cluster"),
    ):
        pass
    assert dask.base.get_scheduler() is None
    path = write_dataset(tmp_path / "one.nc", xr.Dataset({"one": 1.0}))
    with xr.open_dataset(path, engine="h5netcdf") as data:
        assert float(data["one"]) == 1.0
