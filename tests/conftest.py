"""Small data sets of every shape the model must handle, at random parameters, for tests against the dense twin."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings

from ebmodel import em
from ebmodel.cli import main
from ebmodel.data import tidy
from ebmodel.model import Params
from ebmodel.statistics import compress, whiten

settings.register_profile("ebmodel", deadline=None, max_examples=12, derandomize=True, database=None)
settings.load_profile("ebmodel")

SHAPES: dict[str, dict[str, Any]] = {
    "complete": {"n": 25, "p": 4, "m": 6},
    "missing": {"n": 25, "p": 4, "m": 6, "missing": 0.3},
    "fewer-samples-than-snps": {"n": 20, "p": 6, "m": 6, "missing": 0.3, "few": 4},
    "tissue-unobserved": {"n": 20, "p": 4, "m": 5, "missing": 0.3, "few": 0},
    "sample-unobserved": {"n": 12, "p": 3, "m": 5, "empty_rows": 2},
    "wide": {"n": 7, "p": 10, "m": 5},
    "wide-missing": {"n": 7, "p": 10, "m": 5, "missing": 0.3},
    "square": {"n": 6, "p": 6, "m": 5},
    "collinear": {"n": 20, "p": 5, "m": 5, "collinear": True},
    "collinear-missing": {"n": 20, "p": 5, "m": 5, "missing": 0.3, "collinear": True, "few": 3},
    "covariates": {"n": 25, "p": 4, "m": 5, "k": 2},
    "covariates-missing": {"n": 25, "p": 4, "m": 5, "k": 2, "missing": 0.3},
    "intercept-missing": {"n": 20, "p": 3, "m": 5, "intercept": True, "missing": 0.3},
    "covariates-intercept-missing": {"n": 25, "p": 4, "m": 5, "k": 2, "intercept": True, "missing": 0.3, "few": 4},
    "covariates-use-up-a-tissue": {"n": 20, "p": 3, "m": 5, "k": 3, "intercept": True, "missing": 0.3, "few": 2},
    "covariates-redundant": {"n": 20, "p": 3, "m": 5, "k": 3, "redundant": True, "missing": 0.3},
    "wide-intercept-missing": {"n": 9, "p": 12, "m": 5, "intercept": True, "missing": 0.2},
    "one-snp-one-tissue": {"n": 10, "p": 1, "m": 1},
}
SLABS: list[Any] = ["g", "independent", -1.0, 0.5, 2.0, "matrix"]


@dataclass(frozen=True)
class Case:
    """A data set, parameters, and the fast code's view of both."""

    X: Any
    Y: Any
    C: Any
    params: Params

    def __post_init__(self) -> None:
        stats, whitening = whiten(compress(tidy(self.X, self.Y, self.C)), self.params.slab)
        theta = self.params
        state = em.State(float(theta.tau1), whitening.whiten(theta.beta), float(theta.eta), float(theta.sigma2))
        for name, value in {"stats": stats, "whitening": whitening, "state": state}.items():
            object.__setattr__(self, name, value)

    @property
    def dense(self) -> tuple[Any, Any, Params, Any]:
        """The arguments of the dense twin's functions."""
        return self.X, self.Y, self.params, self.C

    def to_params(self, state: em.State) -> Params:
        """Whitened parameters in the paper's coordinates."""
        beta = self.whitening.unwhiten(state.gamma)
        return Params(tau1=state.tau1, beta=beta, eta=state.eta, sigma2=state.sigma2, slab=self.params.slab)


def build(shape: str, slab: Any, seed: int = 0, signal: float = 1.0) -> Case:
    """Data with about half of the tissues active, and parameters of their size but unrelated to them."""
    rng = np.random.default_rng([seed, list(SHAPES).index(shape)])
    spec = {"missing": 0.0, "few": None, "k": 0, "intercept": False, **SHAPES[shape]}
    n, p, m = spec["n"], spec["p"], spec["m"]
    X = rng.standard_normal((n, p)) @ (np.eye(p) + 0.5 * np.triu(rng.standard_normal((p, p)), 1) / np.sqrt(p))
    if spec.get("collinear"):
        X[:, -1], X[:, -2] = X[:, 0], X[:, 0] - 2 * X[:, 1]
    C = rng.standard_normal((n, spec["k"]))
    if spec["intercept"]:
        C = np.column_stack([np.ones(n), C])
    if spec.get("redundant"):
        C[:, -1] = C[:, 0] + C[:, 1]
    active = rng.random(m) < 0.5
    effects = signal * np.where(active, (rng.standard_normal(p) + 0.5 * rng.standard_normal((m, p))).T, 0.0)
    Y = X @ effects + C @ rng.standard_normal((C.shape[1], m)) + 1.5 * rng.standard_normal((n, m))
    gone = rng.random((n, m)) < spec["missing"]
    if spec["few"] is not None:
        gone[:, 0] = rng.permutation(n) >= spec["few"]
    Y[gone] = np.nan
    Y[: spec.get("empty_rows", 0)] = np.nan
    if isinstance(slab, str) and slab == "matrix":
        root = rng.standard_normal((p, p))
        slab = root @ root.T / p + 0.3 * np.eye(p)
    scale = np.exp(0.5 * rng.standard_normal(2))
    tau1, beta = rng.uniform(0.1, 0.9), signal * rng.standard_normal(p)
    params = Params(tau1=tau1, beta=beta, eta=2 * signal**2 * scale[0], sigma2=2 * scale[1], slab=slab)
    return Case(X, Y, C if C.shape[1] else None, params)


EVERY = [pytest.param((shape, slab), id=f"{shape}-{slab}") for shape in SHAPES for slab in SLABS]


@pytest.fixture(scope="session", params=EVERY)
def case(request: pytest.FixtureRequest) -> Case:
    """Every shape of data with every shape of slab."""
    return build(*request.param)


@pytest.fixture(scope="session")
def make_case() -> Any:
    """`build`, for tests that choose their own."""
    return build


@pytest.fixture(scope="session")
def shapes() -> list[str]:
    return list(SHAPES)


@pytest.fixture(scope="session")
def pin() -> Any:
    """Assert relative error <= tol: the largest difference over the largest value wanted, or over ``scale``."""

    def check(got: Any, want: Any, tol: float = 1e-9, scale: float | None = None) -> None:
        got, want = np.asarray(got, dtype=float), np.asarray(want, dtype=float)
        assert got.shape == want.shape
        assert np.isfinite(want).all()
        size = scale if scale is not None else np.abs(want).max(initial=0.0)
        np.testing.assert_allclose(got, want, rtol=0.0, atol=tol * size)

    return check


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed, fresh for every test."""
    return np.random.default_rng(20230)


class Run(NamedTuple):
    """What a command came to."""

    status: int
    out: str
    err: str


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Run the command line in this process."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(*args: object) -> Run:
        with pytest.raises(SystemExit) as caught:
            main([str(arg) for arg in args])
        printed = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Run(caught.value.code, printed.out, printed.err)

    return call
