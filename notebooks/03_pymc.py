# %% [markdown]
# # 3. The PyMC model: from the textbook form to the marginal form
#
# With priors on its parameters, the model of Xue & Li can be written in PyMC line by line as it stands on a blackboard,
# and that form samples badly. Here we see why, remove by hand what hurts, hold the result against the package, and put
# back what was removed, exactly. Then we ask whether the draws can be trusted, for this gene and in general. At the end
# you can marginalise a discrete mixture, read ArviZ's diagnostics, and calibrate a sampler. Read
# [1. The model from scratch](01_model.ipynb) first; EM ([2](02_em.ipynb)) is not needed.

# %%
import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pymc as pm
from scipy.special import expit

import ebmodel
from ebmodel import plot
from ebmodel.bayes import WEAK, Prior

plt.style.use("ebmodel.plot.style")

# %% [markdown]
# ## One gene
#
# Four SNPs, twelve tissues, sixty donors, drawn from the model itself.

# %%
theta = ebmodel.Params(tau1=0.5, beta=[0.3, 0.2, 0.0, 0.0], eta=8.0, sigma2=1.0)
X = np.random.default_rng(0).standard_normal((60, 4))
gene = ebmodel.simulate.model_true(theta, X=X, m=12, seed=4)
Y = gene.Y.to_numpy()
(n, p), m = X.shape, Y.shape[1]
print(f"{int(gene.active.sum())} of {m} tissues are truly active")

# %% [markdown]
# ## The textbook form
#
# The model is
#
# $$Y(t) = X\beta(t) + \varepsilon(t), \qquad \varepsilon(t) \sim N(0, \sigma^2 I_n) \tag{1}$$
#
# $$\beta(t) \mid I(t)=1 \sim N\big(\beta,\ \eta\,(X^\top X)^{-1}\big), \qquad \beta(t) \mid I(t)=0 \equiv 0 \tag{3}$$
#
# $$I(t) \sim \text{Bernoulli}(\tau_1) \tag{4}$$
#
# and wants priors on $\tau_1, \beta, \eta, \sigma^2$. That on $\eta$ is put on the weight $u = \eta/(\eta+\sigma^2)$
# which the posterior mean (5) gives to the data of an active tissue: uniform on $(0, 1)$. What the prior on $\beta$
# does is a subject of its own, in [4. EM against full Bayes](04_em_bayes.ipynb).


# %%
def hyperparameters():
    """tau1, beta, eta and sigma2 with their priors, in the current model."""
    tau1 = pm.Uniform("tau1", 0.0, 1.0)
    beta = pm.Normal("beta", 0.0, 0.5, shape=p)
    sigma2 = pm.LogNormal("sigma2", 0.0, 1.0)
    u = pm.Uniform("shrinkage", 0.0, 1.0)
    return tau1, beta, pm.Deterministic("eta", u / (1.0 - u) * sigma2), sigma2


Q, R = np.linalg.qr(X)
with pm.Model() as textbook:
    tau1, beta, eta, sigma2 = hyperparameters()
    active = pm.Bernoulli("active", tau1, shape=m)  # (4)
    e = pm.Normal("e", 0.0, 1.0, shape=(m, p))
    slab = beta + pm.math.sqrt(eta) * pm.math.dot(e, np.linalg.inv(R).T)  # (3): X'X = R'R, so cov(R^-1 e) = (X'X)^-1
    pm.Normal("Y", pm.math.dot(X, (active[:, None] * slab).T), pm.math.sqrt(sigma2), observed=Y)  # (1)

# %% [markdown]
# NUTS follows gradients, and a Bernoulli variable has none. So PyMC makes a *compound step*: Metropolis flips every
# $I(t)$ in turn, everything else held; then NUTS moves the continuous variables, all $I(t)$ held.

# %%
sizes = {"draws": 500, "tune": 300, "chains": 4}
with textbook:
    latent = pm.sample(**sizes, cores=1, random_seed=1, quiet=True, progressbar=False, compute_convergence_checks=False)

priors = WEAK.with_(beta=Prior("Normal", mu=0, sigma=0.5), sigma2=Prior("LogNormal", mu=0, sigma=1))
tree = ebmodel.sample(gene.X, gene.Y, priors=priors, **sizes, seed=1, progress=False)
print("priors of the second model:", priors)

# %% [markdown]
# The last lines sample the same posterior in the package's way, which we build below; `priors` says in the package's
# terms what `hyperparameters()` says in PyMC's (the priors on `spread` and `alpha` belong to variants of the model and
# play no part). Compare $I(t)$ in the tissues that the posterior leaves undecided. An *effective sample size* (ESS) is
# the number of independent draws that would tell as much; *R-hat* compares chains with each other, and is 1 where they
# agree.

# %%
probability = tree["posterior"]["probability"].mean(["chain", "draw"]).to_numpy()
undecided = np.flatnonzero((probability > 0.03) & (probability < 0.97))
forms = {"textbook": latent["posterior"].to_dataset(), "marginal": tree["posterior"].to_dataset()}
I = {name: draws["active"][..., undecided].to_dataset(name="I") for name, draws in forms.items()}
ess_I = {name: az.ess(draws)["I"].to_numpy() for name, draws in I.items()}
rhat_I = {name: az.rhat(draws)["I"].to_numpy() for name, draws in I.items()}
worst = int(ess_I["textbook"].argmin())
for name in forms:
    print(f"{name}: of 2000 draws of I(t) {ess_I[name].min():.0f} or more effective, R-hat <= {rhat_I[name].max():.3f}")
assert ess_I["textbook"].min() < ess_I["marginal"].min() / 3  # far beyond an ESS's own error, some ten per cent
assert rhat_I["textbook"].max() > 1.01 > rhat_I["marginal"].max()  # the threshold of Vehtari et al. (2021)

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.4), sharey=True)
for ax, name in zip(axes, forms, strict=True):
    for chain in I[name]["I"][..., worst].to_numpy():
        ax.plot(np.cumsum(chain) / np.arange(1, 501), lw=1.4)
    ax.axhline(probability[undecided[worst]], color="0.6", lw=4, zorder=0)
    ax.set(title=f"{name} form", xlabel="draw", ylim=(0, 1))
axes[0].set_ylabel("share of draws with $I(t)=1$ so far")
fig.suptitle(f"{gene.tissue.values[undecided[worst]]}: four chains on their way to $P(I(t)=1 \\mid Y)$")
plt.show()

# %% [markdown]
# *One line a chain; the grey bar is $P(I(t)=1 \mid Y)$, which the marginal form gives without flipping coins (below).
# In the textbook form chains wander.*
#
# ## Why it sticks
#
# To switch a tissue on, Metropolis proposes $I(t)=1$ with the effects that the tissue holds at that moment. While
# $I(t)=0$ the data do not touch these, so they are a draw from the slab, and the flip is accepted with probability
# $\min(1, \rho)$,
#
# $$\rho = \frac{\tau_1\,\psi(Y(t);\, X\beta(t), \sigma^2 I)}{\tau_0\,\psi(Y(t);\, 0, \sigma^2 I)} .$$
#
# On average over the slab $\rho$ is $\tau_1 g_1/(\tau_0 g_0)$, exactly the odds that we want. But the average is
# carried by the rare draws that happen to fit, the rarer the more SNPs there are. Take a tissue with odds of one,
# $h_1 = 1/2$, in whitened coordinates $z = Q^\top Y(t)$ with $\gamma = R\beta = 0$. A sampler that knew the odds would
# switch it on half of the time.

# %%
rng = np.random.default_rng(1)
tau1, eta, sigma2 = theta.tau1, theta.eta, theta.sigma2
for directions in (1, 2, 4, 8):
    # log g1/g0 = 0: the length of z at which the data do not tell
    length2 = directions * np.log(1 + eta / sigma2) / (1 / sigma2 - 1 / (sigma2 + eta))
    z_one = np.full(directions, np.sqrt(length2 / directions))
    slab_draws = np.sqrt(eta) * rng.standard_normal((1_000_000, directions))
    rho = np.exp(slab_draws @ z_one / sigma2 - 0.5 * (slab_draws**2).sum(axis=1) / sigma2)  # tau1 = tau0
    accepted = np.minimum(rho, 1).mean()
    error = rho.std() / 1000
    print(f"p = {directions}: mean of rho {rho.mean():.3f} ± {error:.3f}, flips accepted {accepted:.4f}")
    assert abs(rho.mean() - 1) < 5 * error  # the law of total probability, to Monte Carlo error
assert accepted < 0.05  # far from one half; its Monte Carlo error is below 0.001

# %% [markdown]
# ## Summing and integrating by hand
#
# Both troublemakers can be removed with pencil and paper. Given the hyperparameters tissues are independent, and
#
# $$p(Y(t)) = \sum_{i=0,1} P(I(t)=i) \int p(Y(t) \mid \beta(t))\, p(\beta(t) \mid I(t)=i)\, d\beta(t)
#   = \tau_1 g_1(Y(t)) + \tau_0 g_0(Y(t)).$$
#
# The integral is that of a normal against a normal. In whitened coordinates, with
# $\text{rss}(t) = \|Y(t)\|^2 - \|z(t)\|^2$,
#
# $$z(t) \mid I(t)=1 \sim N(\gamma, (\sigma^2+\eta) I_p), \qquad z(t) \mid I(t)=0 \sim N(0, \sigma^2 I_p), \qquad
#   \text{rss}(t) \sim \sigma^2 \chi^2_{n-p} .$$
#
# In PyMC that is a mixture of two Gaussians, twelve lines:

# %%
z = Y.T @ Q
rss = (Y**2).sum(axis=0) - (z**2).sum(axis=1)


def log_normal(squares, variance, count):
    """Log density of ``count`` normal coordinates whose squared distances from the mean sum to ``squares``."""
    return -0.5 * (count * pm.math.log(2 * np.pi * variance) + squares / variance)


with pm.Model() as marginal:
    tau1, beta, eta, sigma2 = hyperparameters()
    gamma = pm.math.dot(R, beta)
    log_g1 = log_normal(((z - gamma) ** 2).sum(axis=1), sigma2 + eta, p)
    log_g0 = log_normal((z**2).sum(axis=1), sigma2, p)
    mixture = pm.math.logaddexp(pm.math.log(tau1) + log_g1, pm.math.log1p(-tau1) + log_g0)
    loglik = pm.Potential("Y", (mixture + log_normal(rss, sigma2, n - p)).sum())

models = {"textbook": textbook, "marginal": marginal}
numbers = {name: sum(start.size for start in model.initial_point().values()) for name, model in models.items()}
print("numbers to sample:", numbers)
assert numbers == {"textbook": m * (p + 1) + p + 3, "marginal": p + 3}

# %% [markdown]
# Is it right? `ebmodel.loglik` gives $\log p(Y)$ at any parameters, and must agree with our potential wherever we look.
# `ebmodel.pymc_model` gives the package's PyMC model; as it has the same priors the whole log density must agree,
# Jacobians of PyMC's transformed coordinates included.

# %%
package = ebmodel.pymc_model(gene.X, gene.Y, priors=priors, form="marginal")
fast = {"mode": "FAST_COMPILE"}
ours, of_package = marginal.compile_logp(**fast), package.compile_logp(**fast)
our_loglik = marginal.compile_logp(loglik, **fast)
rng = np.random.default_rng(2)
for _ in range(20):
    point = {name: rng.standard_normal(value.shape) for name, value in marginal.initial_point().items()}
    sigma2 = np.exp(point["sigma2_log__"])
    tau1, u = expit(point["tau1_interval__"]), expit(point["shrinkage_interval__"])
    params = ebmodel.Params(tau1=float(tau1), beta=point["beta"], eta=float(u / (1 - u) * sigma2), sigma2=float(sigma2))
    assert np.isclose(our_loglik(point), ebmodel.loglik(gene.X, gene.Y, params), rtol=1e-10)  # the same algebra
    assert np.isclose(ours(point), of_package(point), rtol=1e-10)
print(f"at the last of 20 points: {ours(point):.6f} by hand, {of_package(point):.6f} by the package")

# %% [markdown]
# So `ebmodel.sample` sampled what we wrote: $p + 3$ smooth parameters, no flips. What did it buy?

# %%
shared = ["tau1", "eta", "sigma2", "beta"]
ess = {name: az.ess(draws[shared]) for name, draws in forms.items()}
rows = [r"$\tau_1$", r"$\eta$", r"$\sigma^2$", *[rf"$\beta$, SNP {j + 1}" for j in range(p)]]
rows += [f"$I(t)$, {name}" for name in gene.tissue.values[undecided]]
fig, ax = plt.subplots(figsize=(7, 4.6))
for name, mark, face in (("textbook", "s", "white"), ("marginal", "o", None)):
    values = np.concatenate([*[np.ravel(ess[name][k]) for k in shared], ess_I[name]])
    color = "C1" if face else "C0"
    ax.plot(values / 2000, np.arange(len(rows)), mark, color=color, mfc=face, ms=7, ls="none", label=f"{name} form")
ax.set_yticks(np.arange(len(rows)), rows)
ax.invert_yaxis()
ax.set(xscale="log", xlabel="effective draws per draw", title="What one draw is worth")
fig.legend(loc="outside upper center", ncols=2)
ax.grid(axis="y", color="0.9")
plt.show()
assert ess["textbook"]["tau1"] < ess["marginal"]["tau1"] / 2  # an ESS is itself known to some ten per cent

# %% [markdown]
# *Effective draws over draws, on a log scale. The gap is widest for $I(t)$ in tissues in doubt and for $\tau_1$, which
# counts them; it is small for $\sigma^2$, which hardly depends on them.*
#
# ## Putting back what was removed
#
# We still want $I(t)$ and $\beta(t)$. Given the hyperparameters $\theta$ their posterior is known in closed form, so
# every draw of $\theta$ yields one exact draw of each: first $I(t) \sim \text{Bernoulli}(h_1)$ with
# $h_1 = \tau_1 g_1/(\tau_1 g_1 + \tau_0 g_0)$, then, where $I(t)=1$,
#
# $$\beta(t) \sim N\Big(w\,\hat\beta(t) + (1-w)\,\beta,\ \ w\,\sigma^2 (X^\top X)^{-1}\Big), \qquad
#   w = \frac{\eta}{\eta+\sigma^2},$$
#
# which is (5) with its covariance. `tree["posterior"]` has them as `active` and `effects`, and $h_1$ as `probability`.
# The law of total probability says that averaging over draws of $\theta$ gives the posterior:
#
# $$P(I(t)=1 \mid Y) = E\big[h_1(\theta) \mid Y\big], \qquad
#   E(\beta(t) \mid Y) = E\big[E(\beta(t) \mid Y, \theta) \mid Y\big].$$

# %%
draws = tree["posterior"].to_dataset().stack(every=("chain", "draw")).transpose("every", ...)
tau1, eta, sigma2 = (draws[name].to_numpy()[:, None] for name in ("tau1", "eta", "sigma2"))
distance2 = ((z[None] - (draws["beta"].to_numpy() @ R.T)[:, None]) ** 2).sum(axis=2)  # (draw, tissue)
log_g1 = -0.5 * (p * np.log(sigma2 + eta) + distance2 / (sigma2 + eta))
log_g0 = -0.5 * (p * np.log(sigma2) + (z**2).sum(axis=1) / sigma2)
h1 = expit(np.log(tau1) - np.log1p(-tau1) + log_g1 - log_g0)
assert np.allclose(h1, draws["probability"], atol=1e-8)  # the same algebra, in two orders of summation

w = (eta / (eta + sigma2))[..., None]
betahat = np.linalg.solve(R, z.T).T
given_theta = h1[..., None] * (w * betahat + (1 - w) * draws["beta"].to_numpy()[:, None])  # (5), one a draw
drawn = draws["effects"].to_numpy()
error = (drawn - given_theta).std(axis=0) / np.sqrt(len(drawn))  # given theta, draws are independent
assert np.all(np.abs(drawn.mean(axis=0) - given_theta.mean(axis=0)) < 5 * error)

# %% [markdown]
# For $P(I(t)=1 \mid Y)$ there are now two estimates: the mean of the coins $I(t)$, and the mean of $h_1$, which leaves
# out the noise of the coins (*Rao-Blackwell*):

# %%
errors = az.mcse(forms["marginal"][["active", "probability"]]).isel(tissue=undecided)
for t, coins, chances in zip(undecided, errors["active"].values, errors["probability"].values, strict=True):
    print(f"{gene.tissue.values[t]}: {probability[t]:.3f}; Monte Carlo error {coins:.4f} by I(t), {chances:.4f} by h1")
assert (errors["probability"] < errors["active"]).all()

# %% [markdown]
# ## Diagnostics
#
# What ArviZ says of the hyperparameters, and the package's verdict in words:

# %%
print(az.summary(tree, var_names=shared).to_string())
verdict = ebmodel.diagnose(tree).attrs["verdict"]
print("\nmarginal form:", verdict)
assert verdict.startswith("Sound")

# %%
first = tree["posterior"].to_dataset().isel(draw=slice(100))  # of every chain
az.plot_trace(first, var_names=["tau1", "eta", "sigma2"], figure_kwargs={"figsize": (8, 2.8)})
plt.show()

# %% [markdown]
# *The first 100 draws, one line a chain ($\eta$ and $\sigma^2$ in squared expression units). Healthy traces look like
# this: no drift, no chain apart from the others. $\eta$ has a long tail upwards: few active tissues tell little of a
# variance.* Rank plots see more than the eye does:

# %%
for name, source in (("textbook", latent), ("marginal", tree)):
    grid = az.plot_rank(source, var_names=["tau1", "eta", "sigma2"], figure_kwargs={"figsize": (8, 2.3)})
    grid.viz["figure"].item().suptitle(f"{name} form")
plt.show()

# %% [markdown]
# *How each chain's draws rank among all: ECDF of the ranks less the diagonal, one line a chain, with the p-value of
# ArviZ's test that chains agree. Lines of chains that agree stay near zero; they are thick where the test objects.*
#
# ## Does the model reproduce the data?
#
# `tree["posterior_predictive"]` has responses drawn anew at 100 draws of each chain. How much of each tissue do the
# SNPs explain, $\|z(t)\|^2$, in the data and in these?

# %%
replicated = tree["posterior_predictive"]["Y"].to_numpy().reshape(-1, n, m)
explained = ((replicated.transpose(0, 2, 1) @ Q) ** 2).sum(axis=2)  # (draw, tissue)
low, middle, high = np.quantile(explained, [0.05, 0.5, 0.95], axis=0)
seen = (z**2).sum(axis=1)
fig, ax = plt.subplots(figsize=(7, 3.4))
ax.vlines(np.arange(m), low, high, color="0.75", lw=7, label="90 % of replicated data")
ax.plot(np.arange(m), middle, "_", color="0.2", ms=9, ls="none", label="their median")
ax.plot(np.arange(m), seen, "o", color="C0", ms=6, label="data")
ax.set(
    title="Data, and data from the posterior", xlabel="tissue", ylabel="sum of squares explained\n(expression units²)"
)
ax.set_xticks(np.arange(m), np.arange(1, m + 1))
ax.legend()
plt.show()
inside = (low < seen) & (seen < high)
print(f"{inside.sum()} of {m} tissues within")
assert inside.sum() >= m - 3  # 90 % of 12 is 11

# %% [markdown]
# *Each tissue was seen by the model, so this is a mild test; what does not fit even here is wrong.
# `ebmodel.check` has sharper ones.*
#
# ## Simulation-based calibration
#
# One gene cannot tell whether prior, likelihood, sampler and recovery fit together. Many can: draw parameters from the
# prior, data given them, and draws given the data; the *rank* of the truth among the draws is then uniform, for every
# quantity (Talts et al. 2018). We draw from the prior in numpy, apart from the PyMC model, so that a difference between
# the two would show. `ebmodel.calibration.sbc` does the rest. Draws are thinned, for ranks among draws that depend on
# each other crowd at the ends.


# %%
def generate(stream):
    """Parameters from the prior, and a gene given them."""
    of_prior, of_data = stream.spawn(2)
    rng = np.random.default_rng(of_prior)
    tau1, beta, sigma2, u = rng.random(), 0.5 * rng.standard_normal(p), rng.lognormal(), rng.random()
    truth = ebmodel.Params(tau1=tau1, beta=beta, eta=u / (1 - u) * sigma2, sigma2=sigma2)
    gene = ebmodel.simulate.model_true(truth, X=X, m=m, seed=of_data, posterior=False)
    loglik = ebmodel.loglik(gene.X, gene.Y, truth)
    return gene.assign(tau1=truth.tau1, eta=truth.eta, sigma2=sigma2, loglik=loglik)


def infer(gene, stream):
    """Draws of the posterior, thinned."""
    sizes = {"draws": 100, "tune": 300, "chains": 2, "cores": 1, "seed": int(stream.generate_state(1)[0])}
    tree = ebmodel.sample(gene.X, gene.Y, priors=priors, **sizes, predictive=1, progress=False)
    loglik = tree["log_likelihood"]["Y"].sum("tissue")
    return tree["posterior"].to_dataset().assign(loglik=loglik).isel(draw=slice(None, None, 2))


quantities = {
    r"$\tau_1$": lambda values, _: values["tau1"],
    r"$\eta$": lambda values, _: values["eta"],
    r"$\beta$, SNP 1": lambda values, _: values["beta"][..., 0],
    "active tissues": lambda values, _: values["active"].sum("tissue"),
    r"$\beta(1)$, SNP 1": lambda values, _: values["effects"][..., 0, 0],
    "log-likelihood": lambda values, _: values["loglik"],
}

# %% [markdown]
# A check that nothing could fail would be worth nothing. So the same draws are also judged after being *squeezed* to
# half their sd about their mean, as a sampler too sure of itself would give them. (The truth is one number and its own
# mean, so that squeezing leaves it alone.)


# %%
def squeezed(quantity):
    """The quantity with its draws' sd halved."""
    return lambda values, data: (quantity(values, data) + quantity(values, data).mean()) / 2


names = [r"$\tau_1$", r"$\eta$", "log-likelihood"]
both = quantities | {f"squeezed {name}": squeezed(quantities[name]) for name in names}
result = ebmodel.calibration.sbc(generate, infer, both, replicates=64, seed=2, progress=False)
level = 1 - 0.05 / len(quantities)  # so that all six bands hold together with probability 95 %
inside = {name: ebmodel.calibration.uniformity(result["rank"].sel(quantity=name), level).inside for name in both}
print("outside the band:", [name for name in both if not inside[name]])
assert result.attrs["failed"] == 0
assert all(inside[name] for name in quantities)
assert not any(inside[f"squeezed {name}"] for name in names)

# %%
fig, axes = plt.subplots(2, 3, figsize=(8, 4.8), sharex=True, sharey=True)
for ax, name in zip(axes.flat, quantities, strict=True):
    plot.pit_ecdf(result["rank"].sel(quantity=name), ax=ax, level=level, label="posterior")
    if name in names:
        curve = ebmodel.calibration.difference(result["rank"].sel(quantity=f"squeezed {name}").to_numpy(), level)
        ax.step(curve["point"], curve["ecdf"], where="post", color="C1", ls="--", label="sd halved")
    ax.legend().remove()
    ax.set(title=name, xlabel="", ylabel="")
handles, labels = axes[0, 0].get_legend_handles_labels()
fig.legend(handles, ["band if calibrated", "posterior, 64 genes", "sd halved"], loc="outside upper center", ncols=3)
fig.supxlabel("rank of the truth among the draws")
fig.supylabel("ECDF − uniform")
plt.show()

# %% [markdown]
# *Ranks less what uniform ranks would give. Solid lines stay in the band; the dashed ones show what overconfidence
# looks like: too many truths below and above all draws.* 64 genes see a halved sd, not a sd wrong by a tenth: the
# band says how coarse the check is. [The study](../simulations/README.md#em-against-full-bayes) has 500.
#
# ## What to take away
#
# - Discrete indicators beside the effects that they switch off make a sampler wait for a lucky draw. The more SNPs, the
#   rarer the luck.
# - Summing and integrating out is algebra, not approximation: the density is the same, and $p + 3$ smooth parameters
#   are left, which NUTS likes.
# - What was integrated out comes back exactly, one draw of $I(t)$ and $\beta(t)$ for each draw of $\theta$; for the
#   probability itself average $h_1$.
# - Diagnostics tell whether chains agree; only calibration tells whether they agree on the right thing, and only
#   against the prior that the parameters were drawn from.
# - It is no cure for everything: the posterior may have several modes (`ebmodel.sample` starts its chains at them), and
#   with correlated errors $I(t)$ cannot be summed out.
#
# ## Exercises
#
# 1. Draw the gene with another seed and run again. Which tissue's $I(t)$ mixes worst, and what is its $h_1$? (One in
#    doubt: where $h_1$ is near 0 or 1 there is nothing to travel between.)
# 2. In "Why it sticks", let $\eta$ grow at $p = 4$. The share of accepted flips falls towards zero although the odds
#    stay at one. (Solved below.)
# 3. Prove that $\rho$ has mean $\tau_1 g_1/(\tau_0 g_0)$ over the slab. (Write the mean as an integral.)
# 4. Derive the normal distribution of $\beta(t)$ given $I(t)=1$, $\theta$ and $Y(t)$. (Complete the square in whitened
#    coordinates.)
# 5. How much does Rao-Blackwell buy for the effects? Compare Monte Carlo errors of the means of `effects` and of
#    $E(\beta(t) \mid Y, \theta)$. (Solved below.)
# 6. In `generate`, draw `beta` with sd 1 where the model's prior says 0.5, and calibrate again. Which panel objects,
#    and in which shape? ($\beta$ first: its ranks crowd at both ends.)
#
# ## Solutions
#
# Exercise 2.

# %%
rng, shares = np.random.default_rng(3), []
for eta in (2.0, 8.0, 32.0, 128.0):
    length2 = p * np.log(1 + eta) / (1 - 1 / (1 + eta))  # with sigma2 = 1
    slab_draws = np.sqrt(eta) * rng.standard_normal((1_000_000, p))
    log_rho = slab_draws @ np.full(p, np.sqrt(length2 / p)) - 0.5 * (slab_draws**2).sum(axis=1)
    shares.append(np.exp(np.minimum(log_rho, 0)).mean())
    print(f"eta/sigma2 = {eta:.0f}: {shares[-1]:.4f} of flips accepted")
assert np.all(np.diff(shares) < -0.01)  # Monte Carlo errors are below 0.001

# %% [markdown]
# Exercise 5.

# %%
by_draw = ("chain", "draw", "tissue", "snp"), given_theta.reshape(4, 500, m, p)
errors = az.mcse(forms["marginal"].assign(smooth=by_draw)[["effects", "smooth"]])
ratio = (errors["smooth"] / errors["effects"]).mean("snp").to_numpy()
print("Monte Carlo error, smoothed over drawn, by tissue:", ratio.round(2))
assert np.all(ratio < 1)
