"""The engine: streams, stores, resuming after a kill, workers and clusters, and studies of one's own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import ebmodel
from ebmodel import InputError
from simulations.__main__ import find, main
from simulations.estimators import ESTIMATORS, Estimate, ols
from simulations.metrics import METRICS
from simulations.settings import paper_data
from simulations.store import Store
from simulations.study import Comparison, Study, Whole

ROOT = Path(__file__).parent.parent
CELLS = [{"setting": k, "rho": 0.4, "signal": 1.0, "n": 20, "p": 4, "m": 6} for k in (1, 3)]


def half(data, stream):
    return Estimate(effects=ols(data, stream).effects / 2)


def noisy(data, stream):
    return Estimate(effects=np.random.default_rng(stream).standard_normal(data["effects"].shape))


def largest_error(estimate, data):
    return float(np.abs(estimate.effects - data["effects"].to_numpy()).max())


def small(tmp_path: Path, **estimators) -> Study:
    chosen = {"ols": ols, "noisy": noisy, "eb": ESTIMATORS["eb"], **estimators}
    metrics = {"mse": METRICS["mse"], "fdr": METRICS["fdr"], "largest": largest_error}
    return Study("small", CELLS, 3, Comparison(paper_data, chosen, metrics), folder=tmp_path)


def values(table: pd.DataFrame) -> pd.DataFrame:
    """Results without the times that they took."""
    return table.drop(columns=[name for name in table if name.startswith("seconds")])


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(values(first), values(second), check_exact=True)


def test_a_comparison_gives_every_metric_of_every_estimator(tmp_path: Path):
    study = small(tmp_path)
    results = study.run(jobs=1, progress=False)
    assert len(results) == 6
    for i, row in results.iterrows():
        gene = paper_data(CELLS[i // 3], study.stream(CELLS[i // 3], int(row["replication"])))
        truth = gene["effects"].to_numpy()
        expected = ebmodel.fit(gene.X, gene.Y, n_starts=1).ols.to_numpy()
        assert row["mse_ols"] == pytest.approx(np.mean((expected - truth) ** 2), rel=1e-9)
        assert row["largest_ols"] == pytest.approx(np.abs(expected - truth).max(), rel=1e-9)
        assert row["seconds_ols"] > 0
    assert "fdp_0.05_ols" not in results  # never applies


def test_results_are_an_xarray_dataset(tmp_path: Path):
    study = small(tmp_path)
    study.run(jobs=1, progress=False)
    results = study.results()
    assert dict(results.sizes) == {"part": 3, "cell": 2, "replication": 3}
    assert list(results["part"].to_numpy()) == ["ols", "noisy", "eb"]
    np.testing.assert_array_equal(results["setting"], [1, 3])
    table = study.read().set_index(["setting", "replication"])
    assert float(results["mse"].sel(part="noisy", replication=2)[1]) == table.loc[(3, 2), "mse_noisy"]


def test_streams_depend_on_study_cell_and_replication_alone(tmp_path: Path):
    study = small(tmp_path)
    draw = lambda s, cell, i: np.random.default_rng(s.stream(cell, i)).random()  # noqa: E731
    seen = {draw(study, cell, i) for cell in CELLS for i in range(5)} | {draw(replace(study, name="b"), CELLS[0], 0)}
    assert len(seen) == 11
    assert draw(study, CELLS[0], 3) == draw(replace(study, cells=CELLS[:1], replications=9), dict(CELLS[0]), 3)
    words = [{"violation": name, "strength": 0.1} for name in ("a", "b")]
    assert len({draw(study, cell, 0) for cell in words}) == 2


def test_workers_batches_and_order_change_nothing(tmp_path: Path):
    one = small(tmp_path / "one").run(jobs=1, progress=False)
    two = replace(small(tmp_path / "two"), batch=2).run(jobs=2, progress=False)
    same(one, two)


def test_more_replications_keep_those_that_are_stored(tmp_path: Path):
    study = small(tmp_path)
    first = study.run(2, jobs=1, progress=False)
    longer = study.run(5, jobs=1, progress=False)
    again = longer[longer["replication"] < 2].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, again, check_exact=True)  # their seconds too: they were not run again
    same(longer, small(tmp_path / "new").run(5, jobs=1, progress=False))


def test_a_new_estimator_is_run_alone_on_the_same_data(tmp_path: Path):
    before = small(tmp_path).run(jobs=1, progress=False)
    after = small(tmp_path, half=half).run(jobs=1, progress=False)
    pd.testing.assert_frame_equal(after[before.columns], before, check_exact=True)
    assert np.isfinite(after["mse_half"]).all()
    same(after, small(tmp_path / "new", half=half).run(jobs=1, progress=False))


def test_estimators_can_be_run_in_some_replications_only(tmp_path: Path):
    study = small(tmp_path)
    study = replace(
        study, replicate=replace(study.replicate, only={"noisy": lambda cell, i: cell["setting"] == 3 and i == 1})
    )
    results = study.run(jobs=1, progress=False)
    np.testing.assert_array_equal(np.isfinite(results["mse_noisy"]), [False, False, False, False, True, False])
    assert not any(open_.any() for open_ in study.lacking(3).values())


def test_the_store_says_where_results_come_from(tmp_path: Path):
    study = small(tmp_path)
    study.run(1, jobs=1, progress=False)
    study.run(2, jobs=1, progress=False)
    with xr.open_datatree(study.store.path, engine="zarr", consolidated=False) as tree:
        about = tree.attrs
        assert set(tree.children) == {"ols", "noisy", "eb"}
    assert about["study"] == "small"
    assert about["cells"] == CELLS
    first, second = about["runs"]
    assert first["new"] == second["new"] == 2
    assert first["versions"]["ebmodel"] == "0.1.0"
    assert {"numpy", "scipy", "numba", "python"} <= set(first["versions"])
    assert first["started"] <= first["finished"] <= second["started"]
    assert first["parts"] == ["ols", "noisy", "eb"]


def test_what_is_stored_must_belong_to_the_study(tmp_path: Path):
    study = small(tmp_path)
    with pytest.raises(InputError, match="expected results of a study, got none"):
        study.read()
    study.run(1, jobs=1, progress=False)
    with pytest.raises(InputError, match="expected the cells of the study, got others"):
        replace(study, cells=CELLS[:1]).run(1, jobs=1, progress=False)
    with pytest.raises(InputError, match="expected the cells of the study, got others"):
        replace(study, cells=CELLS[::-1]).read()  # whose numbers would stand beside the wrong cells
    other = replace(study, replicate=replace(study.replicate, metrics={"mse": METRICS["mse"]}))
    with pytest.raises(InputError, match=r"expected metrics 'mse'.*got 'mse', 'seconds'.*move the store away"):
        other.run(2, jobs=1, progress=False)


def test_one_process_writes(tmp_path: Path):
    study = small(tmp_path)
    with (
        study.store.writer("small", CELLS, 1, {}),
        pytest.raises(InputError, match="one that another run writes"),
    ):
        study.run(1, jobs=1, progress=False)
    study.run(1, jobs=1, progress=False)


def fails(cell, stream):
    gene = ebmodel.simulate.setting(1, m=6, p=4, n=20, seed=stream)
    return {"loglik": ebmodel.fit(gene.X[:2], gene.Y[:2]).loglik}


def test_a_failing_replication_says_which_it_is(tmp_path: Path):
    study = Study("failing", [{"a": 1.5}], 2, Whole(fails), folder=tmp_path)
    with pytest.raises(InputError, match=r"study 'failing', cell \{'a': 1.5\}, replication 0"):
        study.run(jobs=1, progress=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "a/b"}, "expected a name fit for a folder, got 'a/b'"),
        ({"cells": []}, "expected at least one cell"),
        ({"replicate": Whole(fails, ("a b",))}, "got 'a b'"),
    ],
)
def test_studies_that_cannot_be(change: dict, message: str, tmp_path: Path):
    with pytest.raises(InputError, match=message):
        replace(small(tmp_path), **change)


MINE = """
import time
import numpy as np
from simulations.study import Study, Whole

def slow(cell, stream):
    time.sleep(0.03)
    x = np.random.default_rng(stream).standard_normal(3)
    return {"a": x[0] + cell["shift"], "b": x[1], "nan": np.nan}

STUDY = Study("mine", [{"shift": 0.0}, {"shift": 1.0}, {"shift": -2.0}], 30, Whole(slow, ("first", "second")))
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "simulations", *arguments]


def test_a_run_killed_several_times_neither_loses_nor_repeats_work(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    run = command("run", f"{file}:STUDY", "--jobs", "2")
    store, kills = Store(tmp_path / "mine.zarr"), 0
    known: dict[tuple[str, int, int], np.ndarray] = {}

    def check() -> int:
        """Everything that was ever seen finished is there as it was, its seconds too."""
        if not store.parts:
            return 0
        found = store.read()
        table = found.to_array("metric").transpose("part", "cell", "replication", "metric").sortby("metric")
        arrays = {part: table.sel(part=part).to_numpy() for part in store.parts}
        for (part, cell, i), row in known.items():
            np.testing.assert_array_equal(arrays[part][cell, i], row)
        for part in store.parts:
            for cell, i in np.argwhere(store.finished(part, 30)).tolist():
                known[part, cell, i] = arrays[part][cell, i]
        return len(known)

    for goal in (1, 50, 110):
        process = subprocess.Popen(
            run, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            seen = sum(int(store.finished(part, 30).sum()) for part in store.parts) if store.exists else 0
            if seen >= goal:
                os.killpg(process.pid, signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.1)  # looking takes a core of those that the run needs
        process.communicate()
        check()
    assert kills >= 3
    assert 0 < len(known) < 180
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert check() == 180
    fresh = find(f"{file}:STUDY", tmp_path / "fresh")
    fresh.run(jobs=1, progress=False)
    for name in ("a", "b", "nan"):
        np.testing.assert_array_equal(store.read()[name], fresh.store.read()[name])
    runs = store.attrs["runs"]
    assert [("finished" in one) for one in runs] == [False] * (len(runs) - 1) + [True]
    assert runs[-1]["new"] < 90


def test_on_a_dask_cluster_of_two_processes(tmp_path: Path, monkeypatch):
    from dask.distributed import LocalCluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the workers' own Python
    alone = small(tmp_path / "alone").run(jobs=1, progress=False)
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        clustered = small(tmp_path / "cluster").run(scheduler=cluster.scheduler_address, progress=False)
        file = tmp_path / "mine.py"
        file.write_text(MINE.replace("30, Whole", "4, Whole"))
        arguments = ("run", f"{file}:STUDY", "--scheduler", cluster.scheduler_address)
        done = subprocess.run(command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)
    same(alone, clustered)
    assert done.returncode == 0, done.stderr
    assert "mine: 12 replications" in done.stdout
    assert Store(tmp_path / "cluster" / "small.zarr").attrs["runs"][0]["scheduler"].startswith("tcp://")


def test_a_scheduler_that_does_not_answer(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("ebmodel.parallel.PATIENCE", 0.3)
    with pytest.raises(InputError, match="expected a Dask scheduler that answers"):
        small(tmp_path).run(scheduler="tcp://127.0.0.1:9", progress=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "nonsense"), "expected one of settings, readings"),
        (("run", "nowhere.py:STUDY"), "expected a Python file, got 'nowhere.py'"),
    ],
)
def test_the_command_line_refuses_with_a_reason(arguments, message, capsys):
    assert main(list(arguments)) == 2
    assert message in capsys.readouterr().err


def test_a_file_without_the_study(tmp_path: Path, capsys):
    (tmp_path / "empty.py").write_text("OTHER = 1\n")
    assert main(["run", f"{tmp_path}/empty.py:STUDY"]) == 2
    assert "expected a Study named 'STUDY'" in capsys.readouterr().err


def test_every_registered_estimator_and_metric_fits_a_study(tmp_path: Path):
    cheap = {name: ESTIMATORS[name] for name in ("zero", "ridge", "eb", "linear", "oracle")}
    study = Study("all", CELLS, 1, Comparison(paper_data, cheap, METRICS), folder=tmp_path)
    results = study.run(jobs=1, progress=False)
    assert (results["mse_oracle"] <= results["mse_zero"]).mean() >= 0.5
    assert results["bin_count_1_eb"].notna().all()
