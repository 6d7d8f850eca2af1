"""mash's stages, in seconds and peak memory, beside mashr's on the same kind of work; and a million effects.

    uv run pytest tests/benchmarks/test_mash_speed.py --benchmark-enable -s

44 conditions, 49 canonical covariances and 8 of low rank; "CC": all standard errors 1; "EZ": alpha = 1, standard errors
vary; "EE": alpha = 0, standard errors vary by effect, so that every effect has its own V. Each case runs in a process
of its own with one thread, after its kernels have been compiled. R is not run here: mashr's seconds are those that were
once measured with version 0.2.81 (R 4.2, OpenBLAS 0.3.21, one thread, also on a machine with two cores), single runs.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from ebmodel.mash.covariances import Covariance, canonical
from ebmodel.mash.data import tidy
from ebmodel.mash.likelihood import Components, LogLikelihood
from ebmodel.mash.posterior import posterior
from ebmodel.mash.prior import Prior, scaling_grid
from ebmodel.mash.weights import solve
from ebmodel.parallel import one_thread

CONDITIONS = 44
RANKS = (1, 1, 1, 1, 1, 5, 3, 2)
MASHR = {  # (effects, case): components, then seconds of likelihood, weights and posterior, and peak MB
    (1000, "EE"): (1255, 11.4, 49.8, 1.2, 376),
    (1000, "EZ"): (1141, 0.4, 22.1, 1.5, 365),
    (1000, "CC"): (1027, 0.3, 18.3, 0.2, 338),
    (5000, "EE"): (1198, 46.8, 71.8, 9.7, 724),
    (5000, "EZ"): (1141, 2.2, 39.4, 11.3, 697),
    (5000, "CC"): (1027, 2.1, 33.0, 2.5, 660),
    (20000, "EE"): (1255, 205.7, 161.8, 51.2, 2371),
    (20000, "EZ"): (1198, 7.2, 129.2, 60.8, 2292),
    (20000, "CC"): (1084, 7.2, 108.9, 23.4, 2125),
}
TARGET = {"EE": 8.0, "EZ": 30.0, "CC": 30.0}
MILLION = 4.0
"""GB that a million effects may take."""


def simulate(effects: int, case: str, seed: int = 1):
    """Estimates, standard errors and covariances: three effects in ten are drawn from some covariance and scale."""
    rng = np.random.default_rng(seed)
    low = [Covariance.from_factor(f"low_{k}", rng.standard_normal((CONDITIONS, r))) for k, r in enumerate(RANKS)]
    U = [*canonical(CONDITIONS), *(one.normalised() for one in low)]
    B = np.zeros((effects, CONDITIONS))
    which = np.where(rng.random(effects) < 0.3, rng.integers(len(U), size=effects), -1)
    for k, one in enumerate(U):
        rows = np.flatnonzero(which == k)
        scale = rng.choice([0.5, 1.0, 2.0, 5.0], size=(len(rows), 1))
        B[rows] = scale * rng.standard_normal((len(rows), one.rank)) @ one.factor.T
    S = np.ones(B.shape) if case == "CC" else rng.uniform(0.5, 2.0, B.shape)
    return (B * S if case == "EZ" else B) + S * rng.standard_normal(B.shape), S, U


@one_thread
def work(effects: int, case: str) -> dict[str, float]:
    """Seconds of every stage."""
    B, S, U = simulate(effects, case)
    marks = [time.perf_counter()]
    data = tidy(B, S, None, 1.0 if case == "EZ" else 0.0)
    grid = scaling_grid(data)
    likelihood = LogLikelihood(data, Components.of(U, grid, pointmass=True))
    assert likelihood.matrix.shape[0] == effects
    marks.append(time.perf_counter())
    pseudo = np.zeros(likelihood.shape[1])
    pseudo[0] = 9.0
    weights = solve(likelihood, pseudo)
    assert weights.converged
    marks.append(time.perf_counter())
    pi = weights.pi[1:].reshape(len(U), len(grid))
    moments, _ = posterior(data, Prior(tuple(U), grid, pi, weights.pi[0], data.conditions, data.alpha))
    assert np.isfinite(moments.sd).all()
    marks.append(time.perf_counter())
    seconds = dict(zip(("likelihood", "weights", "posterior"), np.diff(marks).tolist(), strict=True))
    return {**seconds, "components": likelihood.shape[1], "relative_gap": weights.relative_gap}


def run(*arguments: str) -> dict[str, float]:
    """What this file prints when it is run in a process of its own."""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(Path(__file__)), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("effects", "case"), MASHR, ids=[f"{J}-{case}" for J, case in MASHR])
def test_stages_against_mashr(benchmark, effects, case):
    if benchmark.disabled:
        if effects == min(MASHR)[0]:
            assert work(50, case)["relative_gap"] <= 1e-12
        pytest.skip("the ratio is measured with --benchmark-enable")
    found = benchmark.pedantic(run, (str(effects), case), rounds=1)
    components, *theirs, memory = MASHR[effects, case]
    ours = [found[name] for name in ("likelihood", "weights", "posterior")]
    ratio = sum(theirs) / sum(ours)
    benchmark.extra_info |= found | {"ratio": ratio}
    stages = ", ".join(f"{name} {a:.2f} s ({b / a:.0f} x)" for name, a, b in
                       zip(("likelihood", "weights", "posterior"), ours, theirs, strict=True))  # fmt: skip
    print(
        f"\n{effects} {case}: {stages}; total {sum(ours):.2f} s, mashr {sum(theirs):.1f} s: ratio {ratio:.0f} (target "
        f"{TARGET[case]:.0f}); {found['components']:.0f} components (mashr's run {components}); peak "
        f"{found['peak_mb']:.0f} MB (mashr {memory}); relative gap {found['relative_gap']:.1e}"
    )


def million(effects: int, folder: Path) -> dict[str, float]:
    """A fit to all effects, none kept but the prior, and their posteriors written to a store."""
    from ebmodel import mash

    B, S, U = simulate(effects, "EZ")
    began = time.perf_counter()
    fit = mash.fit(B, S, alpha=1.0, covariances=U, posterior=False)
    fitted = time.perf_counter()
    fit.apply_to(folder / "posterior.zarr", B, S)
    return {
        "fit": fitted - began,
        "apply": time.perf_counter() - fitted,
        "relative_gap": fit.dataset.attrs["relative_gap"],
    }


def test_a_million_effects(benchmark, tmp_path):
    if benchmark.disabled:
        million(200, tmp_path)
        pytest.skip("a million effects are fitted with --benchmark-enable")
    found = benchmark.pedantic(run, ("1000000", str(tmp_path)), rounds=1)
    benchmark.extra_info |= found
    print(
        f"\n1,000,000 x {CONDITIONS} (EZ): fit {found['fit']:.0f} s, posteriors to a store {found['apply']:.0f} s; "
        f"peak {found['peak_mb'] / 1000:.2f} GB, data included (target {MILLION:.0f}); relative gap "
        f"{found['relative_gap']:.1e}"
    )
    assert found["peak_mb"] <= 1000 * MILLION


if __name__ == "__main__":
    if Path(sys.argv[2]).is_dir():
        result = million(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        work(50, sys.argv[2])  # compiles
        result = work(int(sys.argv[1]), sys.argv[2])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6  # of Linux, in KiB
    print(json.dumps(result | {"peak_mb": peak}))
