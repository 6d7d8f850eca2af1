"""The mixture weights: against long EM, closed forms and exact optima of the R implementation, by their certificate."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize

from ebmodel.errors import InputError
from ebmodel.mash import weights
from ebmodel.mash.weights import Matrix, Step, Weights, solve

REFERENCE = Path(__file__).parents[2] / "shared" / "mash_reference"
CASES = ["A", "C", "D_hetero", "E_hetero_V", "F_missing_alpha1", "G_nopointmass", "G_nullweight100"]
TOL = 1e-12


# Problems ------------------------------------------------------------------------------------------------------------


def mixture(J: int, R: int = 6, scales: int = 10, seed: int = 0, active: float = 0.4) -> Any:
    """Log-likelihoods of J effects in R conditions, C = I and S = 1, under canonical covariances; the null first."""
    rng = np.random.default_rng(seed)
    factors = [np.eye(R), *np.eye(R)[:, :, None], np.ones((R, 1)), np.linalg.cholesky(0.5 * np.eye(R) + 0.5)]
    which = rng.integers(len(factors), size=J)
    size = rng.choice([0.5, 1.0, 2.0, 4.0], J) * (rng.random(J) < active)
    b = np.stack([size[j] * factors[which[j]] @ rng.standard_normal(factors[which[j]].shape[1]) for j in range(J)])
    B = b + rng.standard_normal((J, R))
    null = -0.5 * np.square(B).sum(axis=1) - 0.5 * R * np.log(2 * np.pi)
    columns = [null]
    for F in factors:
        d, Q = np.linalg.eigh(F.T @ F)
        for w2 in np.logspace(-1.0, 1.7, scales):
            shrunk = np.square(B @ F @ Q) @ (w2 / (1 + w2 * d))
            columns.append(null - 0.5 * np.log1p(w2 * d).sum() + 0.5 * shrunk)
    return np.stack(columns, axis=1)


def favour(P: int, count: float = 9.0) -> Any:
    """Pseudo-counts for the first component alone."""
    return np.where(np.arange(P) == 0, count, 0.0)


def phi(L: Any, a: Any, pi: Any) -> float:
    top = L.max(axis=1)
    held = np.asarray(a) > 0
    return float(np.log(np.exp(L - top[:, None]) @ pi).sum() + top.sum() + np.asarray(a)[held] @ np.log(pi[held]))


def gap(L: Any, a: Any, pi: Any) -> float:
    E = np.exp(L - L.max(axis=1)[:, None])
    a = np.asarray(a, dtype=float)
    g = (E / (E @ pi)[:, None]).sum(axis=0) + np.divide(a, pi, out=np.zeros(len(a)), where=a > 0)
    return float(g.max() - len(L) - a.sum())


def certified(L: Any, a: Any, **settings: Any) -> Weights:
    """Solve, and check everything that the result says of itself."""
    found = solve(Matrix(L), a, **settings)
    N = len(L) + np.sum(a)
    assert found.status == "converged"
    assert found.converged
    assert found.relative_gap <= TOL
    assert (found.pi >= 0).all()
    assert found.pi.sum() == pytest.approx(1.0, abs=1e-13)
    assert found.value == pytest.approx(phi(L, a, found.pi), rel=1e-13, abs=1e-10)
    assert gap(L, a, found.pi) <= 3 * TOL * N  # its own rounding
    assert found.passes == len(found.trace)
    return found


class Blocks:
    """Likelihoods that are given some rows at a time, and counted."""

    def __init__(self, values: Any, size: int) -> None:
        self.values, self.size, self.passes, self.shape = values, size, 0, values.shape

    def take(self, columns: Any) -> Any:
        return self.values[:, columns]

    def rows(self, rows: Any) -> Any:
        return self.values[rows]

    def blocks(self) -> Iterator[Any]:
        self.passes += 1
        for i in range(0, len(self.values), self.size):
            yield self.values[i : i + self.size]


# Against other ways --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0.0, 9.0])
def test_is_where_em_goes(count: float) -> None:
    L = mixture(150, R=3, scales=4)
    a = favour(L.shape[1], count)
    found = certified(L, a)
    E, pi = np.exp(L - L.max(axis=1)[:, None]), np.full(L.shape[1], 1 / L.shape[1])
    for _ in range(20_000):
        pi = (pi * ((1 / (E @ pi)) @ E) + a) / (len(L) + count)
    assert phi(L, a, pi) <= found.value + 1e-9
    assert phi(L, a, pi) >= found.value - 1e-3  # EM creeps; it is as near as its own certificate says
    assert found.value - phi(L, a, pi) <= gap(L, a, pi) + 1e-9


def test_is_where_a_general_optimiser_goes() -> None:
    L, a = mixture(80, R=2, scales=2, seed=3), np.array([2.0, 0.5, *np.zeros(8)])
    L = L[:, : len(a)]
    found = certified(L, a)
    other = minimize(
        lambda u: -phi(L, a, np.exp(u) / np.exp(u).sum()), np.zeros(len(a)), method="BFGS", options={"gtol": 1e-8}
    )
    assert -other.fun <= found.value + 1e-9
    assert -other.fun == pytest.approx(found.value, abs=1e-4)


def test_effects_that_one_component_alone_can_have_made() -> None:
    counts, a = np.array([5, 3, 2, 0]), np.array([9.0, 0.0, 0.5, 0.25])
    L = np.where(np.repeat(np.arange(4), counts)[:, None] == np.arange(4), -7.0, -np.inf)
    found = certified(L, a)
    np.testing.assert_allclose(found.pi, (counts + a) / (counts + a).sum(), rtol=1e-10)


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference results are not here")
@pytest.mark.parametrize("case", CASES)
def test_exact_optima_of_the_r_implementation(case: str) -> None:
    L, theirs, a = reference(case)
    found = certified(L, a)
    assert found.value >= phi(L, a, theirs) - 1e-9
    assert found.value == pytest.approx(phi(L, a, theirs), abs=1e-9)
    np.testing.assert_allclose(found.pi, theirs, rtol=0.0, atol=1e-10)


def reference(case: str) -> tuple[Any, Any, Any]:
    """Log-likelihoods in the order of the reference's components, its optimum, and its pseudo-counts."""

    def table(name: str) -> pd.DataFrame:
        return pd.read_csv(REFERENCE / case / f"{name}.csv.gz", index_col=0, keep_default_na=False)

    B, S, C = (table(name).to_numpy() for name in ("data_Bhat", "data_Shat", "V"))
    if case.startswith("E"):  # a contrast of measurements
        D, S = table("L").to_numpy(), table("Shat_orig").to_numpy()
    else:
        D = np.eye(len(C))
    V = D @ (S[:, :, None] * C * S[:, None, :]) @ D.T
    root = np.linalg.cholesky(V)
    x = np.linalg.solve(root, B[:, :, None])[:, :, 0]
    constant = -0.5 * B.shape[1] * np.log(2 * np.pi) - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)
    columns = {"null": constant - 0.5 * np.square(x).sum(axis=1)}
    stacked, grid = table("Ulist"), table("grid")["value"].to_numpy()
    for name, rows in stacked.groupby(level=0, sort=False):
        U = rows.iloc[:, 1:].to_numpy()
        half = np.linalg.solve(root, np.broadcast_to(U / np.diag(U).max(), V.shape))
        d, Q = np.linalg.eigh(np.linalg.solve(root, half.transpose(0, 2, 1)))
        d, y2 = np.maximum(d, 0.0), np.square(np.einsum("jrs,jr->js", Q, x))
        for k, omega in enumerate(grid):
            v = 1 + omega**2 * d
            columns[f"{name}.{k + 1}"] = constant - 0.5 * (np.log(v) + y2 / v).sum(axis=1)
    theirs = table("tight_pi_full")["value"]
    a = favour(len(theirs), 99.0 if case == "G_nullweight100" else 9.0)
    return np.stack([columns[str(name)] for name in theirs.index], axis=1), theirs.to_numpy(), a


# Edges ---------------------------------------------------------------------------------------------------------------


def test_one_component() -> None:
    found = certified(np.array([[-3.0], [-1e5]]), [9.0])
    assert found.pi.tolist() == [1.0]
    assert found.value == -3.0 - 1e5
    assert found.gap == 0.0


@pytest.mark.parametrize("count", [0.0, 9.0])
def test_one_effect(count: float) -> None:
    # log(pi e^-1 + (1 - pi) e^2) + a log pi: the derivative is zero at pi = a / (1 + a) / (1 - e^-3), if below one
    found = certified(np.array([[-1.0, 2.0, 1.0]]), [count, 0.0, 0.0])
    np.testing.assert_allclose(found.pi, [count / (1 + count) / (1 - np.exp(-3)), found.pi[1], 0.0], atol=1e-12)


def test_coinciding_columns() -> None:
    L = mixture(300, R=3, scales=5)
    once = certified(L, favour(L.shape[1]))
    twice = certified(np.hstack([L, L, L[:, 1:9] + 1e-13]), favour(2 * L.shape[1] + 8))
    assert twice.value == pytest.approx(once.value, abs=1e-8)


def test_effects_all_alike() -> None:
    L = np.broadcast_to(mixture(1, seed=5), (500, mixture(1).shape[1]))
    found = certified(L, np.zeros(L.shape[1]))
    assert found.value == pytest.approx(500 * L[0].max(), rel=1e-12)  # all weight on what is most likely


def test_null_effects_are_called_null() -> None:
    L = mixture(400, active=0.0)
    assert certified(L, favour(L.shape[1])).pi[0] > 0.9


def test_pseudo_counts_keep_weights_positive() -> None:
    L = mixture(300)
    L = np.column_stack([L, np.full(len(L), -np.inf), L[:, 0] - 1e6])  # no effect is of the last two
    a = np.zeros(L.shape[1])
    a[[0, 3, 7, -2, -1]] = 9.0, 0.5, 1e-3, 2.0, 1e-6
    found = certified(L, a)
    assert (found.pi[a > 0] > 0).all()
    np.testing.assert_allclose(found.pi[-2:], a[-2:] / (len(L) + a.sum()), rtol=1e-8)  # g_p = a_p / pi_p = N


def test_pseudo_counts_on_every_component() -> None:
    L = mixture(200, R=3, scales=6)
    found = certified(L, np.full(L.shape[1], 0.1))
    assert (found.pi >= 0.1 / (len(L) + 0.1 * L.shape[1]) * (1 - 1e-9)).all()


def test_components_that_cannot_have_made_some_effects() -> None:
    L = mixture(300)
    L[::3, 0], L[::7, 4:20], L[5, 1:] = -np.inf, -np.inf, -np.inf
    certified(L, favour(L.shape[1]))


def test_effects_no_active_component_can_have_made() -> None:
    # started on a component that is impossible, or all but, for most: others are made active
    L = mixture(200)
    L[10:, 1] = -np.inf
    L[:10, 1] -= 2000.0
    best = certified(L, np.zeros(L.shape[1]))
    worst = certified(L, np.zeros(L.shape[1]), start=np.eye(L.shape[1])[1])
    assert worst.value == pytest.approx(best.value, abs=1e-8)


def test_log_likelihoods_of_any_size() -> None:
    L = mixture(300, seed=1)
    rng = np.random.default_rng(0)
    far = L - 10.0 ** rng.uniform(0, 6, (len(L), 1))
    near, far_away = certified(L, favour(L.shape[1])), certified(far, favour(L.shape[1]))
    np.testing.assert_allclose(far_away.pi, near.pi, atol=1e-6)  # 1e6 has ten digits left
    outlying = 30.0 * L + 1e4 * rng.standard_normal(L.shape) * (rng.random(L.shape) < 0.05)
    certified(outlying, favour(L.shape[1]))


@pytest.mark.parametrize("seed", range(4))
def test_unrelated_columns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    J, P = 20 + 400 * (seed % 2), 170
    L = 10.0 ** (2 * seed - 3) * rng.standard_normal((J, P))
    certified(L, rng.exponential(size=P) * (rng.random(P) < 0.1))
    certified(L, np.zeros(P))


# What must not matter ------------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 1000))
def test_order_scale_and_number_of_copies_do_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    L = mixture(120, R=3, scales=4, seed=seed)
    a = favour(L.shape[1], float(rng.integers(0, 10)))
    found = certified(L, a)
    columns, rows = rng.permutation(L.shape[1]), rng.permutation(len(L))
    constants = rng.normal(scale=20.0, size=len(L))
    other = certified((L + constants[:, None])[rows][:, columns], a[columns])
    assert other.value == pytest.approx(found.value + constants.sum(), abs=1e-8)
    np.testing.assert_allclose(other.pi, found.pi[columns], atol=1e-4)
    copies = certified(np.repeat(L, 2, axis=0), 2 * a)
    assert copies.value == pytest.approx(2 * found.value, abs=1e-8)


def test_blocks_do_not_matter() -> None:
    L = mixture(900)
    a = favour(L.shape[1])
    whole = certified(L, a)
    for size in (1, 77, 10_000):
        parts = Blocks(L, size)
        np.testing.assert_allclose(solve(parts, a).pi, whole.pi, atol=1e-10)
        assert parts.passes == whole.passes  # the rows to begin with are asked for by number


def test_many_effects_begin_with_few(monkeypatch: pytest.MonkeyPatch) -> None:
    L = mixture(3000)
    a = favour(L.shape[1])
    whole = certified(L, a)
    monkeypatch.setattr(weights, "SAMPLE", (200, 400))
    few = certified(L, a)
    np.testing.assert_allclose(few.pi, whole.pi, atol=1e-9)
    monkeypatch.setattr(weights, "BATCH", 1)
    monkeypatch.setattr(weights, "FEW", 1)
    assert certified(L, a).value == pytest.approx(whole.value, abs=1e-7)


def test_the_same_twice_to_the_last_digit() -> None:
    L = mixture(700)
    first, second = (solve(Matrix(L), favour(L.shape[1])) for _ in range(2))
    assert (first.pi == second.pi).all()
    assert first.trace == second.trace


def test_a_start_is_used() -> None:
    L = mixture(800)
    a = favour(L.shape[1])
    cold = certified(L, a)
    warm = certified(L, a, start=cold.pi)
    assert (warm.passes, warm.iterations) == (1, 0)
    for start in (np.ones(L.shape[1]), np.eye(L.shape[1])[5], cold.pi + 1e-300):
        assert certified(L, a, start=start).value == pytest.approx(cold.value, abs=1e-8)


def test_a_million_effects_by_blocks() -> None:
    class Normal:
        """z ~ N(0, 1 + omega^2), never all at once."""

        shape = (1_000_000, 20)
        omega2 = np.concatenate([[0.0], np.logspace(-2, 2, 19)])
        z = np.random.default_rng(0).standard_normal(shape[0]) * np.sqrt(
            1 + np.random.default_rng(1).choice([0.0, 4.0], shape[0], p=[0.8, 0.2])
        )

        def take(self, columns: Any) -> Any:
            v = 1 + self.omega2[columns]
            return -0.5 * (np.square(self.z)[:, None] / v + np.log(v))

        def rows(self, rows: Any) -> Any:
            v = 1 + self.omega2
            return -0.5 * (np.square(self.z[rows])[:, None] / v + np.log(v))

        def blocks(self) -> Iterator[Any]:
            for i in range(0, len(self.z), 50_000):
                v = 1 + self.omega2
                yield -0.5 * (np.square(self.z[i : i + 50_000])[:, None] / v + np.log(v))

    found = solve(Normal(), favour(20))
    assert found.converged
    # what is estimated well is the variance that all components together give
    assert found.pi @ Normal.omega2 == pytest.approx(0.8, abs=4 * np.sqrt(2 * 3 / 1e6) * 1.8)


# What it says --------------------------------------------------------------------------------------------------------


def test_phi_rises_from_pass_to_pass_and_progress_is_told() -> None:
    L, told = mixture(1000, R=10), list[Step]()
    found = certified(L, favour(L.shape[1]), progress=told.append)
    assert tuple(told) == found.trace
    values = [step.value for step in told]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(values))
    best = found.value
    assert all(best <= step.value + step.gap + 1e-9 for step in told)  # every pass has its own certificate
    assert (found.value, found.gap) == (told[-1].value, told[-1].gap)


def test_too_few_steps_are_said() -> None:
    L = mixture(500)
    found = solve(Matrix(L), favour(L.shape[1]), max_iter=1)
    assert (found.status, found.converged, found.iterations) == ("max_iter", False, 1)
    assert found.relative_gap > TOL
    best = certified(L, favour(L.shape[1]))
    assert found.value <= best.value <= found.value + found.gap


def test_a_tolerance_below_rounding_is_said() -> None:
    L = mixture(500)
    found = solve(Matrix(L), favour(L.shape[1]), tol=0.0)
    assert found.status in {"stalled", "converged"}
    assert found.relative_gap < 1e-13


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"L": (3, 2, np.nan)}, "NaN|nan"),
        ({"L": (3, 0, np.nan)}, "NaN|nan"),
        ({"L": (3, 2, np.inf)}, "inf"),
        ({"L": (3, slice(None), -np.inf)}, "row 3"),
        ({"a": np.array([9.0, -1.0, 0, 0])}, "pseudo-counts"),
        ({"a": np.array([9.0, np.nan, 0, 0])}, "pseudo-counts"),
        ({"a": np.array([9.0, 0.0])}, "pseudo-counts"),
        ({"start": np.zeros(4)}, "starting weights"),
        ({"start": np.array([1.0, -1.0, 0, 0])}, "starting weights"),
    ],
)
@pytest.mark.parametrize("begun", [False, True])
def test_what_cannot_be_used(change: dict[str, Any], says: str, begun: bool) -> None:
    L, a = np.random.default_rng(0).standard_normal((10, 4)), favour(4)
    if "L" in change:
        row, column, value = change["L"]
        L[row, column] = value
    start = change.get("start", np.array([1.0, 0.0, 0.0, 0.0]) if begun else None)
    with pytest.raises(InputError, match=says):
        solve(Matrix(L), change.get("a", a), start=start)


@pytest.mark.parametrize("values", [np.zeros(3), np.zeros((0, 3)), np.zeros((3, 0))])
def test_a_matrix_is_wanted(values: Any) -> None:
    with pytest.raises(InputError, match="effects x components"):
        Matrix(values)
