"""Models are compiled once for data of one shape, in arithmetic that does not depend on what is cached."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import nutpie
import pymc as pm
import pytensor
import pytest

import ebmodel
from ebmodel.bayes import WEAK, compiling
from ebmodel.bayes.compiling import MOST, compiled_once, strictly
from ebmodel.bayes.models import pose
from ebmodel.bayes.sampling import draw_prior

TWICE = """
import numpy as np
import nutpie
import pymc as pm
from ebmodel.bayes.compiling import compiled_once


def build():
    z = np.random.default_rng(1).standard_normal((9, 4))
    with pm.Model() as model:
        mean, scale = pm.Normal("mean", shape=4), pm.HalfNormal("scale")
        squares = ((z - mean) ** 2).sum(axis=1)
        slab = -squares / scale - 4 * pm.math.log(scale)
        pm.Potential("y", pm.math.logaddexp(slab, -(z**2).sum(axis=1)).sum())
    return model


code = compiled_once("small", build)[1]
tree = nutpie.sample(code, draws=50, tune=50, chains=2, cores=1, seed=1, progress_bar=False)
print(tree["posterior"]["scale"].to_numpy().tobytes().hex())
"""
"""Draws of a mixture of two normals, to the last bit. Compiled as PyTensor would, it fails this test."""


class Stopped(BaseException):
    """Before the compiler, which takes long."""


@pytest.fixture
def rounding(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """What was about to be compiled, and whether sums might have been reordered."""
    seen = []
    monkeypatch.setattr(compiling, "_compiled", {})

    def stopped(name: str) -> Any:
        def call(*_: Any, **__: Any) -> Any:
            seen.append((name, pytensor.config.numba__fastmath))
            raise Stopped

        return call

    for module, name in ((nutpie, "compile_pymc_model"), (pm, "sample"), (pm, "sample_prior_predictive")):
        monkeypatch.setattr(module, name, stopped(name))
    return seen


def gene() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    X = rng.standard_normal((8, 1))
    return X, [0, 1, 1.5] * X + rng.standard_normal((8, 3))


def test_sums_keep_their_order_within_the_context_alone():
    before = pytensor.config.numba__fastmath
    with strictly():
        assert not pytensor.config.numba__fastmath
    assert pytensor.config.numba__fastmath == before


@pytest.mark.parametrize(
    ("settings", "by"),
    [({}, "compile_pymc_model"), ({"form": "latent"}, "sample"), ({"errors": "correlated"}, "sample")],
    ids=["marginal", "latent", "correlated"],
)
def test_everything_that_draws_is_compiled_strictly(rounding: list, settings: dict[str, Any], by: str):
    with pytest.raises(Stopped):
        ebmodel.sample(*gene(), draws=4, tune=4, chains=2, cores=1, progress=False, **settings)
    assert rounding == [(by, False)]


def test_draws_from_the_prior_are_compiled_strictly(rounding: list):
    with pytest.raises(Stopped):
        draw_prior(pose(*gene(), "g", "free", WEAK), 4, 1)
    assert rounding == [("sample_prior_predictive", False)]


def test_mash_is_compiled_strictly(rounding: list):
    rng = np.random.default_rng(5)
    fit = ebmodel.mash.fit(rng.standard_normal((30, 2)), 1.0, grid=[1.0], covariances="canonical")
    with pytest.raises(Stopped):
        ebmodel.mash.sample(fit, draws=4, tune=4, chains=2, progress=False, method="nuts")
    assert rounding == [("compile_pymc_model", False)]


def test_a_model_is_built_once_and_the_oldest_is_let_go(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiling, "_compiled", {})
    monkeypatch.setattr(nutpie, "compile_pymc_model", lambda model: f"compiled {model}")
    built: list[int] = []

    def build(number: int) -> Any:
        return lambda: built.append(number) or number

    for number in [*range(MOST), 0, MOST, 1, 0]:  # MOST takes 0's place, and 0 takes 1's
        assert compiled_once(number, build(number)) == (number, f"compiled {number}")
    assert built == [*range(MOST), MOST, 0]


@pytest.mark.statistical
def test_the_first_run_of_a_seed_gives_the_draws_of_the_second(tmp_path: Path):
    """In a folder of compiled code that is empty, and in the same folder then."""
    environment = os.environ | {"PYTENSOR_FLAGS": f"base_compiledir={tmp_path}"}
    first, second = (
        subprocess.run([sys.executable, "-c", TWICE], env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    assert any(tmp_path.rglob("*.nbc"))
    assert first.stdout == second.stdout
