"""What integrating I(t) and beta(t) out buys, how fast the marginal model is beside JAX, and what compiling costs.

    uv run --group bench pytest tests/benchmarks --benchmark-enable -s -k sampling

Ratios are between numbers of the same run, in seconds of processor time, which other processes disturb less than the
clock; one core throughout, and compiling left out on both sides.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import textwrap
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import arviz as az
import numpy as np
import nutpie
import pymc as pm
import pytest
import xarray as xr

import ebmodel
from ebmodel.bayes import models, sampling, starts

SHARED = ["tau1", "eta", "sigma2", "beta"]


class Spent(NamedTuple):
    """Processor time and time on the clock, in seconds."""

    cpu: float
    wall: float

    def __add__(self, other):
        return Spent(self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other):
        return Spent(self.cpu - other.cpu, self.wall - other.wall)

    def __str__(self):
        return f"{self.cpu:.2f} s ({self.wall:.1f} s on the clock)"


def _now() -> Spent:
    return Spent(time.process_time(), time.perf_counter())


def _timed(call, *arguments, **settings):
    began = _now()
    result = call(*arguments, **settings)
    return result, _now() - began


def _least_ess(posterior: xr.Dataset, names: list[str]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tissues active, or inactive, in every draw
        ess = az.ess(posterior[names], method="bulk")
    return min(float(ess[name].min()) for name in names)


def _largest_rhat(posterior: xr.Dataset, names: list[str]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rhat = az.rhat(posterior[names])
    return max(float(rhat[name].max()) for name in names)


def _enabled(benchmark):
    if benchmark.disabled:
        pytest.skip("a ratio of minutes' work: measured with --benchmark-enable")


def _points(problem, model, chains: int) -> np.ndarray:
    """Where the chains start: near the best mode, in the sampler's coordinates."""
    mode = starts.unconstrained(model, starts.values(problem, *starts.find_modes(problem, 1)[0]))
    return mode + sampling.JITTER * np.random.default_rng(1).standard_normal((chains, len(mode)))


def _nutpie(code, points, draws: int, tune: int):
    """NUTS on the compiled marginal model and nothing else, the chains one after the other."""
    following = iter(points)
    code = replace(code, initial_point_func=lambda _: np.ascontiguousarray(next(following)))
    return nutpie.sample(
        code, draws=draws, tune=tune, chains=len(points), cores=1, seed=1, save_warmup=True, progress_bar=False
    )


def _steps(tree) -> int:
    """Gradients that nutpie evaluated, those of its warm-up included."""
    return int(tree["sample_stats"]["n_steps"].sum() + tree["warmup_sample_stats"]["n_steps"].sum())


def _latent(problem, draws: int, tune: int):
    """PyMC's compound step on the latent model, timed from the first draw to the last: without compiling."""
    seen = []
    with models.build(problem, "latent"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = pm.sample(
            draws, tune=tune, chains=4, cores=1, random_seed=1, progressbar=False, compute_convergence_checks=False,
            callback=lambda *_, **__: seen.append(_now()),
        )  # fmt: skip
    return tree["posterior"].to_dataset(), seen[-1] - seen[0]


@pytest.mark.parametrize(
    ("m", "p", "draws", "tune", "target"),
    [(15, 4, 500, 500, 50.0), (50, 30, 100, 200, None)],
    ids=["n=50, p=4, m=15", "n=50, p=30, m=50"],
)
def test_marginal_against_latent(benchmark, request, m, p, draws, tune, target):
    """Effective draws a second, the worst over the hyperparameters and I(t) (and P(I=1), which only one form has)."""
    _enabled(benchmark)
    gene = ebmodel.simulate.setting(1, rho=0.4, signal=1.0, n=50, p=p, m=m, seed=1)
    problem = models.pose(gene.X, gene.Y, "g", "free", "weak")
    settings = {"draws": 1000, "tune": 1000, "chains": 4, "cores": 1, "seed": 1}
    sampling.nuts(problem, settings | {"draws": 10, "tune": 10})  # compiles
    model, code = sampling.compiled(problem)

    _, alone = _timed(_nutpie, code, _points(problem, model, 4), 1000, 1000)
    (posterior, _), whole = benchmark.pedantic(_timed, (sampling.nuts, problem, settings), rounds=1)
    (posterior, _), recovering = _timed(sampling.recover, problem, posterior, np.random.default_rng(1))
    ess = _least_ess(posterior, [*SHARED, "active", "probability"])
    rhat = _largest_rhat(posterior, SHARED)

    latent, spent = _latent(problem, draws, tune)
    slow, slow_rhat = _least_ess(latent, [*SHARED, "active"]), _largest_rhat(latent, SHARED)
    ratios = [(ess / seconds.cpu) / (slow / spent.cpu) for seconds in (alone, whole, whole + recovering)]
    benchmark.extra_info |= dict(zip(("alone", "with_starts", "with_recovery"), ratios, strict=True))
    wanted = "" if target is None else f" (target {target:.0f})"
    print(
        f"\n{request.node.callspec.id}, 4 chains, least bulk ESS:"
        f"\n  marginal, 1000 + 1000: ESS {ess:.0f}, R-hat {rhat:.3f}; sampling {alone}, with the search for starts "
        f"{whole}, recovering I(t) and beta(t) {recovering}"
        f"\n  latent, {tune} + {draws}: ESS {slow:.1f}, R-hat {slow_rhat:.2f}; sampling {spent}"
        f"\n  ratio of ESS per second: sampling {ratios[0]:.0f}{wanted}, with starts {ratios[1]:.0f}, with recovery "
        f"too {ratios[2]:.0f}"
    )


def _log_density(problem):
    """The marginal model with its weak priors, by hand in JAX: of the sampler's unconstrained point."""
    import jax.numpy as jnp
    from jax.nn import softplus

    inputs = {name: jnp.asarray(value) for name, value in problem.inputs.items()}
    stats = problem.whitened[0]
    V = jnp.asarray(np.ascontiguousarray(stats.V.transpose(0, 2, 1)).reshape(-1, stats.V.shape[1]))
    by_pattern = (lambda x: x) if len(stats.d) == 1 else (lambda x: x[inputs["pattern"]])
    d, scale, strength = inputs["d"], inputs["scale"], inputs["strength"]

    def log_normal(z):
        return -0.5 * (jnp.log(2 * jnp.pi) + z**2)

    def log_density(point):
        logit_tau1, log_noise, logit_shrinkage, signal = point[0], point[1], point[2], point[3:]
        sigma2 = jnp.exp(log_noise) * scale**2
        eta = jnp.exp(logit_shrinkage) * sigma2 / strength  # u/(1 - u) = e^logit
        gamma = signal * jnp.sqrt(inputs["per_direction"] * sigma2 / strength)
        prior = log_normal(log_noise) + log_normal(signal).sum()  # noise's Jacobian cancels against its density
        for logit in (logit_tau1, logit_shrinkage):
            prior -= softplus(logit) + softplus(-logit)
        a = (V @ gamma).reshape(d.shape)
        variance = sigma2 + eta * d
        log_det = by_pattern(jnp.log(variance / sigma2).sum(axis=1))
        explained = (by_pattern(d / variance) * (inputs["coordinates"] - by_pattern(a)) ** 2).sum(axis=1)
        base = inputs["n"] * (jnp.log(2 * jnp.pi) + jnp.log(sigma2))
        log_g1 = -0.5 * (base + log_det + inputs["rss"] / sigma2 + explained)
        log_g0 = -0.5 * (base + inputs["yy"] / sigma2)
        return prior + jnp.logaddexp(log_g1 - softplus(-logit_tau1), log_g0 - softplus(logit_tau1)).sum()

    return log_density


def _natural(problem, points) -> xr.Dataset:
    """Unconstrained draws (chain, draw, parameter) as the model's parameters."""
    inputs = problem.inputs
    tau1, sigma2 = 1.0 / (1.0 + np.exp(-points[..., 0])), np.exp(points[..., 1]) * problem.scale**2
    unit = np.sqrt(inputs["per_direction"] * sigma2 / inputs["strength"])
    beta = (points[..., 3:] * unit[..., None]) @ inputs["L"].T
    eta = np.exp(points[..., 2]) * sigma2 / inputs["strength"]
    dims = ("chain", "draw")
    return xr.Dataset(
        {"tau1": (dims, tau1), "eta": (dims, eta), "sigma2": (dims, sigma2), "beta": ((*dims, "snp"), beta)}
    )


def _numpyro(log_density, points, draws: int, tune: int, *, vectorised: bool):
    """NumPyro's NUTS, compiled ahead: draws (chain, draw, parameter), gradients evaluated, time without compiling."""
    import jax
    from numpyro.infer import NUTS

    kernel = NUTS(potential_fn=lambda point: -log_density(point), dense_mass=False)

    def step(state, _):
        state = kernel.sample(state, (), {})
        return state, (state.z, state.num_steps)

    def begin(seed, point):
        return kernel.init(seed, tune, point, (), {})

    seeds = jax.random.split(jax.random.key(1), len(points))
    begun = [begin(seeds, points)] if vectorised else [begin(*pair) for pair in zip(seeds, points, strict=True)]
    run = jax.jit(lambda state: jax.lax.scan(step, state, None, length=tune + draws)[1]).lower(begun[0]).compile()
    chains, spent = _timed(lambda: jax.block_until_ready([run(state) for state in begun]))
    z, steps = (np.stack([np.asarray(chain[i]) for chain in chains]) for i in range(2))
    z = z[0].transpose(1, 0, 2) if vectorised else z
    return z[:, tune:], int(steps.sum()), spent


def _gradient_seconds(code, log_density, points) -> tuple[float, float]:
    """Processor time of one log density with gradient: as nutpie calls it (through ctypes here), and JAX's."""
    import jax

    function, pointer = code.compiled_logp_func.ctypes, ctypes.POINTER(ctypes.c_double)
    point, gradient, value = np.empty(points.shape[1]), np.empty(points.shape[1]), np.empty(1)
    where = [array.ctypes.data_as(pointer) for array in (point, gradient, value)]

    def ours():
        for point[:] in points:
            function(len(point), *where, code.user_data.ctypes.data)

    def theirs(points):
        def step(total, point):
            value, gradient = jax.value_and_grad(log_density)(point + 0.0 * total)
            return total + value + gradient.sum(), None

        return jax.lax.scan(step, 0.0, points)[0]

    run = jax.jit(theirs).lower(points).compile()
    seconds = [_timed(ours)[1].cpu, _timed(lambda: run(points).block_until_ready())[1].cpu]
    return seconds[0] / len(points), seconds[1] / len(points)


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "20 % missing"])
def test_marginal_against_numpyro(benchmark, request, missing):
    """The same density, data, start and numbers of draws; first that it is the same density."""
    _enabled(benchmark)
    reason = "NumPyro is in the group `bench`: uv run --group bench pytest ..."
    pytest.importorskip("numpyro", reason=reason)
    import jax

    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(1)
    params = ebmodel.Params(tau1=0.5, beta=rng.normal(0.0, 1.0 / np.sqrt(50), 30), eta=1.0, sigma2=1.0)
    gene = ebmodel.simulate.model_true(params, n=50, m=50, missing=missing, seed=2)
    problem = models.pose(gene.X, gene.Y, "g", "free", "weak")
    model, code = sampling.compiled(problem)
    log_density, points = _log_density(problem), _points(problem, model, 4)

    assert [variable.name for variable in model.free_RVs] == ["tau1", "noise", "shrinkage", "signal"]
    of_pymc = model.compile_logp(mode="FAST_COMPILE")
    names = [variable.name for variable in model.value_vars]
    for point in points[0] + rng.standard_normal((5, points.shape[1])):
        values = dict(zip(names, [*point[:3], point[3:]], strict=True))
        np.testing.assert_allclose(log_density(point), of_pymc(values), rtol=0.0, atol=1e-8)
    gradients = _gradient_seconds(code, log_density, points[0] + rng.standard_normal((20_000, points.shape[1])))

    tree, spent = benchmark.pedantic(_timed, (_nutpie, code, points, 1000, 1000), rounds=1)
    ours = tree["posterior"].to_dataset()[SHARED]
    ours_ess, ours_steps = _least_ess(ours, SHARED), _steps(tree)
    print(
        f"\nn=50, p=30, m=50, {request.node.callspec.id}; 4 chains, 1000 + 1000, least bulk ESS of {', '.join(SHARED)}:"
        f"\n  one gradient: ours {1e6 * gradients[0]:.1f} us, JAX {1e6 * gradients[1]:.1f} us"
        f"\n  nutpie: ESS {ours_ess:.0f} in {spent}, {ours_steps} gradients, {1e6 * spent.cpu / ours_steps:.0f} us each"
    )
    rates = []
    for vectorised in (False, True):
        draws, steps, seconds = _numpyro(log_density, points, 1000, 1000, vectorised=vectorised)
        theirs = _natural(problem, draws)
        rates.append(_least_ess(theirs, SHARED) / seconds.cpu)
        print(
            f"  NumPyro, chains {'together' if vectorised else 'one by one'}: ESS {_least_ess(theirs, SHARED):.0f} in "
            f"{seconds}, {steps} gradients, {1e6 * seconds.cpu / steps:.0f} us each"
        )
        apart = 0.0
        for name in SHARED:
            error = np.hypot(*(az.mcse(posterior[[name]])[name].to_numpy() for posterior in (ours, theirs)))
            gap = ours[name].mean(("chain", "draw")).to_numpy() - theirs[name].mean(("chain", "draw")).to_numpy()
            apart = max(apart, float(np.abs(gap / error).max()))
        assert apart < 4.5, f"posterior means differ by {apart:.1f} standard errors"
    ratio = ours_ess / spent.cpu / max(rates)
    benchmark.extra_info |= {"ratio": ratio, "gradients": gradients}
    print(f"  ratio of ESS per second, over NumPyro's better: {ratio:.1f} (target at least {1 / 1.5:.2f})")


@pytest.mark.parametrize("missing", [0.0, 0.2], ids=["complete", "missing"])
@pytest.mark.parametrize("slab", ["g", "power"])
def test_compiling(benchmark, request, tmp_path, slab, missing):
    """Compiling the marginal model in a fresh Python: with empty caches, and with those that this filled."""
    _enabled(benchmark)
    script = textwrap.dedent(f"""
        import time, nutpie, ebmodel
        from ebmodel.bayes import models, sampling
        gene = ebmodel.simulate.setting(1, seed=0, n=40, m=10, p=5, missing={missing})
        problem = models.pose(gene.X, gene.Y, {slab!r}, "free", "weak")
        problem.inputs
        began = time.process_time(), time.perf_counter()
        sampling.compiled(problem)
        print(time.process_time() - began[0], time.perf_counter() - began[1])
    """)
    flags = {"NUMBA_CACHE_DIR": str(tmp_path / "numba"), "PYTENSOR_FLAGS": f"base_compiledir={tmp_path / 'pytensor'}"}

    def fresh() -> Spent:
        run = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | flags, cwd=Path(ebmodel.__file__).parents[1],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        return Spent(*(float(word) for word in run.stdout.split()))

    cold, cached = benchmark.pedantic(lambda: (fresh(), fresh()), rounds=1)
    print(f"\nslab={slab!r}, {'responses missing' if missing else 'complete'}: first {cold}, from the caches {cached}")
