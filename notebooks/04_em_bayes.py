# %% [markdown]
# # 4. EM against full Bayes
#
# `ebmodel.fit` finds the parameters by maximum likelihood and takes them for the truth; `ebmodel.sample` gives them a
# prior and averages over what the data leave open. Where do the two differ, which should be believed, and what does the
# prior do that nobody asked of it? At the end you can compare the two on a gene, know which intervals hold what they
# promise, and can foretell what a vague prior will do. Read [2. EM step by step](02_em.ipynb) and
# [3. The PyMC model](03_pymc.ipynb) first.

# %%
import textwrap

import arviz as az
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.integrate import quad
from scipy.special import betaln, logsumexp, softmax
from scipy.stats import norm

import ebmodel
from ebmodel import plot

plt.style.use("ebmodel.plot.style")

# %% [markdown]
# ## One gene, two answers
#
# Ten tissues are few, and the effects of the four SNPs are small beside the noise: much stays in doubt. The same
# parameters serve for all genes of this notebook, and the truth is known.

# %%
theta = ebmodel.Params(tau1=0.5, beta=[0.2, 0.15, 0.1, 0.0], eta=1.0, sigma2=1.0)
genes = [ebmodel.simulate.model_true(theta, n=100, m=10, seed=28 + k, posterior=False) for k in range(12)]
gene = genes[0]
fit = ebmodel.fit(gene.X, gene.Y)
sizes = {"draws": 500, "tune": 500, "chains": 4, "cores": 1, "progress": False}
tree = ebmodel.sample(gene.X, gene.Y, **sizes, seed=1)
comparison = ebmodel.compare(fit, tree)
print(textwrap.fill(comparison.attrs["findings"], 110))
assert tree.attrs["verdict"].startswith("Sound")

# %% [markdown]
# `findings` is put together from the comparison, each sentence because the numbers say so. First the parameters:

# %%
plot.hyperparameters(fit, tree, figure=plt.figure(figsize=(8, 7)))
plt.show()
parameters = comparison.isel(quantity=np.flatnonzero(comparison["kind"] == "hyperparameter"))
assert ((parameters["lower"] < parameters["em"]) & (parameters["em"] < parameters["upper"])).all()

# %% [markdown]
# *Grey: each parameter's posterior. Blue: draws of two at a time. Stars and dashed lines: the EM's one point. It lies
# well inside the cloud; what the EM does not say is how large the cloud is.*

# %%
fig, ax = plt.subplots(figsize=(5.4, 5))
plot.probabilities_compared(comparison, ax=ax)
plt.show()
em, posterior = (comparison[name].where(comparison["kind"] == "probability", drop=True) for name in ("em", "mean"))
print(f"EM expects {em.sum():.1f} active tissues, the posterior {posterior.sum():.1f}; {gene.active.sum():.0f} are")
assert em.sum() > posterior.sum() + 1

# %% [markdown]
# *One mark a tissue. Bars show how far $P(I(t)=1)$ moves when the parameters move within their posterior: what looks
# certain at the EM's point depends on the point.* Then effects and the widths of their intervals:

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.6))
plot.effects_compared(comparison, axes=axes)
plt.show()

# %% [markdown]
# *One mark an effect, the darker the surer its tissue is active. Left: positive effects below the line are shrunk more
# by the posterior. Right: above the line the posterior's interval is the wider; an EM width of 0 is a tissue ruled
# out.*
#
# ## Who shrinks more, and why
#
# Both shrink by equation (5): with $w = \eta/(\eta+\sigma^2)$,
#
# $$E(\beta(t) \mid Y, \theta) = h_1\,\big(w\,\hat\beta(t) + (1-w)\,\beta\big). \tag{5}$$
#
# The EM evaluates it at one $\theta$, the posterior averages it over many, and tends to be the more cautious on both
# sides: a tissue that the EM rules out keeps some chance, one that it is sure of loses some. On this gene the second
# dominates, so the posterior shrinks more: the EM's slab has been *fitted* to the tissues that it calls active, which
# makes these look the more active; and the prior on $\beta$ has a say, to which we come. On some genes it is the EM
# that shrinks more; we shall count. The law of total variance says what the EM's standard deviation leaves out:
#
# $$\text{var}(\beta(t) \mid Y) = E\big[\text{var}(\beta(t) \mid Y, \theta) \mid Y\big]
#   + \text{var}\big[E(\beta(t) \mid Y, \theta) \mid Y\big].$$
#
# The EM has the first term, at one $\theta$. By hand, for SNP 1:

# %%
X, Y = gene.X.to_numpy(), gene.Y.to_numpy()
(n, p), m = X.shape, Y.shape[1]
flat = {name: values.to_numpy().reshape(2000, *values.shape[2:]) for name, values in tree["posterior"].items()}
h1, beta, drawn = flat["probability"], flat["beta"], flat["effects"]
eta, sigma2 = flat["eta"][:, None], flat["sigma2"][:, None]
w, betahat = eta / (eta + sigma2), np.linalg.lstsq(X, Y)[0]
slab = w * betahat[0] + (1 - w) * beta[:, :1]  # (draw, tissue): the mean of SNP 1's effect if the tissue is active
within = (h1 * w * sigma2 * np.linalg.inv(X.T @ X)[0, 0] + h1 * (1 - h1) * slab**2).mean(axis=0)
between = (h1 * slab).var(axis=0)
squares = (drawn[..., 0] - drawn[..., 0].mean(axis=0)) ** 2
assert np.all(np.abs(squares.mean(axis=0) - within - between) < 5 * squares.std(axis=0) / np.sqrt(500))  # ESS >= 500
rows = {"P by EM": em.values, "P by posterior": posterior.values, "left out by EM": between / (within + between)}
print(pd.DataFrame(rows, gene.tissue.values).round(2).to_string())
size = [float(np.abs(estimate).mean()) for estimate in (fit.ols, fit.effects, drawn.mean(axis=0))]
print("mean size of an effect: {:.3f} by least squares, {:.3f} by EM, {:.3f} by the posterior".format(*size))
assert size[2] < size[1] < size[0]
assert np.all(between > 0.1 * (within + between))

# %% [markdown]
# "Left out" is the share of the second term, which `comparison` holds as `left_out`: a tenth or more in every tissue.
#
# ## Intervals
#
# Three 95 % intervals of an effect: the *plug-in* interval, exact at the fitted parameters; the *bootstrap* of Laird
# and Louis, which refits data sets drawn from the fit and averages over the refitted parameters, with no prior; and
# the quantiles of the full *posterior*.


# %%
def intervals(fit, tree, boot):
    """Lower and upper ends, (tissue, snp), by method."""
    plugin = fit.effects_interval(0.95)
    ends = {"plug-in": (plugin["lower"].to_numpy(), plugin["upper"].to_numpy())}
    for name, source in (("bootstrap", boot), ("posterior", tree)):
        effects = source["posterior"]["effects"].to_numpy().reshape(-1, *fit.effects.shape)
        ends[name] = tuple(np.quantile(effects, [0.025, 0.975], axis=0, method="inverted_cdf"))  # 0 stays exactly 0
    return ends


few = {"replicates": 40, "draws": 50, "n_starts": 6, "progress": False}
ends = intervals(fit, tree, ebmodel.bootstrap(fit, **few))

# %%
looks = {"plug-in": ("C1", "s", "--"), "bootstrap": ("C5", "^", ":"), "posterior": ("C0", "o", "-")}
middles = [fit.effects, None, None]
fig, ax = plt.subplots(figsize=(8, 3.8))
for k, (name, (low, high)) in enumerate(ends.items()):
    color, mark, dashes = looks[name]
    place = np.arange(m) + 0.22 * (k - 1)
    ax.vlines(place, low[:, 0], high[:, 0], color=color, ls=dashes, lw=1.6)
    ax.plot(place, low[:, 0], mark, place, high[:, 0], mark, color=color, ms=4, ls="none")
    ax.plot([], [], color=color, ls=dashes, marker=mark, ms=4, label=name)
ax.plot(np.arange(m), gene.effects[:, 0], "k*", ms=9, ls="none", label="truth")
ax.set_xticks(np.arange(m), [f"{t + 1}\nP = {P:.2f}" for t, P in enumerate(posterior.values)])
ax.set(title="Effect of SNP 1: 95 % intervals", xlabel="tissue", ylabel="effect (expression units per allele)")
fig.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4)
plt.show()

# %% [markdown]
# *Marks are the ends of the intervals. One that ends at 0 ends in the spike.*
#
# Does it matter? Count, on twelve genes drawn from the same parameters, how many effects the intervals hold.

# %%
rows, fits, trees = [], [fit], [tree]
for k, one in enumerate(genes):
    if k:
        fits.append(ebmodel.fit(one.X, one.Y))
        trees.append(ebmodel.sample(one.X, one.Y, **sizes, seed=k, predictive=1))
    truth = one.effects.to_numpy()
    for name, (low, high) in intervals(fits[k], trees[k], ebmodel.bootstrap(fits[k], **few, seed=k)).items():
        held = (low <= truth) & (truth <= high)
        rows.append({"gene": k, "method": name, "coverage": held.mean(), "width": (high - low).mean()})
study = pd.DataFrame(rows).pivot_table(index="gene", columns="method")
for what in ("coverage", "width"):
    print(what, "of 95 % intervals\n" + study[what].agg(["mean", "sem"]).round(3).to_string(), end="\n\n")
assert study["coverage"]["plug-in"].mean() < 0.95 - 2 * study["coverage"]["plug-in"].sem()
for name in ("bootstrap", "posterior"):
    for what in ("coverage", "width"):
        gain = study[what][name] - study[what]["plug-in"]  # gene by gene
        assert gain.mean() > 2 * gain.sem()
averages = [one["posterior"]["effects"].mean(["chain", "draw"]) for one in trees]
more = sum(
    float(abs(one.effects).mean() - abs(average).mean()) < 0 for one, average in zip(fits, averages, strict=True)
)
print(f"EM shrinks effects more than the posterior in {more} of 12 genes")
assert 0 < more < 12

# %%
fig, axes = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
for place, (name, (color, mark, _)) in enumerate(looks.items()):
    for ax, what in zip(axes, ("coverage", "width"), strict=True):
        ax.plot(
            study[what][name], place + np.linspace(-0.25, 0.25, 12), mark, color=color, mfc="white", ms=5, ls="none"
        )
        ax.errorbar(
            study[what][name].mean(), place, xerr=2 * study[what][name].sem(), color="k", fmt="|", ms=16, capsize=3
        )
axes[0].axvline(0.95, color="0.6", lw=1, ls="--")
axes[0].set_yticks(range(3), list(looks))
axes[0].invert_yaxis()
axes[0].set(title="What the intervals hold", xlabel="share of true effects inside")
axes[1].set(title="What they cost", xlabel="mean width (expression units per allele)")
plt.show()

# %% [markdown]
# *One mark a gene, bars are means ± 2 standard errors; dashed is the promise.* Twelve genes say that plug-in intervals
# hold too little, that bootstrap and posterior mend most of it, and *not* which of these two is better. [The
# study](../simulations/README.md#coverage-of-intervals) has 48 genes a cell and more tissues: from 25 tissues on the
# three hardly differ. Nor is 95 % owed to anybody here: at fixed parameters the posterior promises coverage only on
# average over its prior.
#
# ## Fits on the boundary
#
# Where do the worst plug-in intervals come from?

# %%
edge = [k for k, one in enumerate(fits) if one.params.eta == 0]
shown = edge[0]
sd = fits[shown].effects_sd.to_numpy()[fits[shown].posterior_probability > 0.999]
low, high = trees[shown]["posterior"]["eta"].quantile([0.025, 0.975]).to_numpy()
print(f"eta = 0 in {len(edge)} of 12 fits; in gene {shown + 1}: {fits[shown].status}")
print(f"there the EM's sd of effects in tissues that it is sure of is at most {sd.max():.4f}; 95 % posterior "
      f"interval of eta: {low:.3f} to {high:.2f}; truth {theta.eta:g}")  # fmt: skip
by_edge = study["coverage"]["plug-in"].groupby(study.index.isin(edge)).mean()
print(f"plug-in coverage {by_edge[True]:.2f} in these genes, {by_edge[False]:.2f} in the others")
assert low < theta.eta < high
assert by_edge[True] < by_edge[False]

# %% [markdown]
# At $\eta = 0$ all active tissues share one effect, known exactly: the maximum of the likelihood is a point, and here
# the point is on the edge. The posterior of $\eta$ is wide: the data cannot tell a small $\eta$ from a moderate one.
#
# ## The prior on $\beta$ decides how many tissues are active
#
# The posterior is not free of choices, and one of them is not innocent. Take one tissue, one SNP and $\eta = 0$, in
# whitened coordinates: $z \sim N(0, \sigma^2)$ under the spike, $z \sim N(\gamma, \sigma^2)$ under the slab, with a
# prior $\gamma \sim N(0, \kappa)$. With $\gamma$ integrated out $z \sim N(0, \sigma^2 + \kappa)$; the Bayes factor is
#
# $$\frac1K = \Big(1 + \frac{\kappa}{\sigma^2}\Big)^{-1/2} \exp\Big(\frac{z^2}{2\sigma^2}\,
#   \frac{\kappa}{\sigma^2+\kappa}\Big).$$
#
# The exponential levels off as $\kappa$ grows, the square root does not: the evidence for an effect, *any* effect,
# falls as one over the prior's sd. A vague prior promises large effects, and is punished for what it promised.


# %%
def bayes_factor(z, sd):
    """1/K of one tissue and one SNP, sigma2 = 1: slab over spike."""
    return (1 + sd**2) ** -0.5 * np.exp(z**2 / 2 * sd**2 / (1 + sd**2))


by_quadrature = quad(lambda gamma: norm.pdf(3, gamma) * norm.pdf(gamma, 0, 5), -40, 40, points=[0, 3])[0] / norm.pdf(3)
assert np.isclose(by_quadrature, bayes_factor(3, 5), rtol=1e-8)  # the integral that the formula claims to be
assert np.isclose(bayes_factor(3, 1e5) / bayes_factor(3, 1e4), 0.1, rtol=1e-6)  # ten times vaguer, a tenth

sds = np.geomspace(0.1, 1e4, 200)
fig, ax = plt.subplots(figsize=(6.4, 3.6))
for z, color, dashes in ((2, "C1", "--"), (3, "C0", "-"), (4, "C2", "-.")):
    ax.loglog(sds, bayes_factor(z, sds), color=color, ls=dashes)
    ax.plot(sds[[0, -1]], 2 * [np.exp(z**2 / 2)], color=color, ls=":", lw=1)  # maximised over gamma
    ax.annotate(f"z = {z}", (30, bayes_factor(z, 30)), (4, 4), textcoords="offset points", color=color)
    ax.annotate(f"z = {z}, EM", (1e4, np.exp(z**2 / 2)), (2, 3), textcoords="offset points", color=color, ha="right")
ax.axhline(1, color="0.6", lw=1)
ax.set(xlabel=r"prior sd of $\gamma$, in units of $\sigma$", ylabel="Bayes factor, slab over spike")
ax.set_title("Evidence for an effect falls as the prior grows vague")
plt.show()

# %% [markdown]
# *Thick: Bayes factors of a tissue two, three or four standard errors from zero. Thin dots: maximised over $\gamma$, as
# EM does; it pays nothing. Below the grey line the spike wins, whatever the data say* (Bartlett, Lindley).
#
# ## Ten tissues, exactly
#
# With ten tissues there are $2^{10}$ sets of active ones, and given the set, $\eta$ and $\sigma^2$ all else integrates
# in closed form: the full posterior without sampling. With $k$ active tissues, sums over these, and
# $v = \sigma^2 + \eta$, each of the $p$ coordinates of $\gamma \sim N(0, \kappa I)$ contributes
#
# $$v^{-k/2}\,\Big(1 + \frac{k\kappa}{v}\Big)^{-1/2}
#   \exp\Big(-\frac{1}{2v}\Big[\sum_t z_t^2 - \frac{\kappa\,(\sum_t z_t)^2}{v + k\kappa}\Big]\Big),$$
#
# the inactive tissues $N(0, \sigma^2)$ densities, and $\tau_1$, uniform, a Beta function. The second factor is the
# price. It is paid once, however many tissues share $\gamma$; $p$ times for $p$ SNPs; and not at all by the empty set.
# The package's default has $\kappa = \sigma^2 n/p$: the mean effects explain, a priori, as much as the noise.

# %%
u_grid = (np.arange(15) + 0.5) / 15  # eta/(eta + sigma2), uniform
active_sets = (np.arange(2**m)[:, None] >> np.arange(m)) & 1  # (set, tissue)
k = active_sets.sum(axis=1)


def enumerate_sets(gene, ratio):
    """log p(Y, set) of every set of active tissues, (set,), under gamma ~ N(0, ratio sigma2 I)."""
    Y = gene.Y.to_numpy()
    z, total, logs = Y.T @ np.linalg.qr(gene.X.to_numpy())[0], (Y**2).sum(), []
    first, second = active_sets @ z, active_sets @ (z**2).sum(axis=1)
    middle = (total - (z**2).sum()) / (m * (n - p))
    for sigma2 in middle * np.exp(np.linspace(-0.2, 0.2, 7)):
        prior = norm.logpdf(np.log(sigma2 * m * n / total))  # the default: log-normal about the mean square of Y
        for u in u_grid:
            v, kappa = sigma2 / (1 - u), ratio * sigma2
            fitted = kappa * (first**2).sum(axis=1) / (v + k * kappa)
            log_p = p * (k * np.log(v / sigma2) + np.log1p(k * kappa / v)) + (second - fitted) / v - second / sigma2
            logs.append(prior - 0.5 * (m * n * np.log(sigma2) + total / sigma2 + log_p) + betaln(k + 1, m - k + 1))
    return logsumexp(logs, axis=0)


chance = softmax(enumerate_sets(gene, n / p))  # P(set | Y)
exact_tau1, exact = chance @ ((k + 1) / (m + 2)), chance @ active_sets  # E(tau1 | Y), P(I(t)=1 | Y)
error = az.mcse(tree["posterior"].to_dataset()[["tau1", "probability"]])
print(f"tau1: {exact_tau1:.3f} by enumeration, {flat['tau1'].mean():.3f} ± {error['tau1']:.3f} by NUTS")
assert abs(flat["tau1"].mean() - exact_tau1) < 5 * error["tau1"] + 0.005  # and what the grid rounds
assert np.all(np.abs(posterior - exact) < 5 * error["probability"].to_numpy() + 0.005)

# %% [markdown]
# Two routes, one answer. The remedy for a scale that nobody knows is to let the data say: `mean="hierarchical"` has
# $\beta \sim N(0, \kappa(X^\top X)^{-1})$ with $\kappa/(\kappa+\sigma^2)$ uniform, which mixes such priors by their
# evidence. That, too, can be enumerated.


# %%
learned = np.array(
    [softmax(logsumexp([enumerate_sets(one, v / (1 - v)) for v in u_grid], axis=0)) for one in genes]
)  # P(set | Y), (gene, set), with kappa/(kappa + sigma2) uniform
learned_tau1 = learned @ ((k + 1) / (m + 2))
hierarchical = ebmodel.sample(gene.X, gene.Y, mean="hierarchical", **sizes, seed=1)
sampled = hierarchical["posterior"].to_dataset()[["tau1"]]
mean, error = float(sampled["tau1"].mean()), float(az.mcse(sampled)["tau1"])
print(f"tau1, hierarchical: {learned_tau1[0]:.3f} by enumeration, {mean:.3f} ± {error:.3f} by NUTS")
assert abs(mean - learned_tau1[0]) < 5 * error + 0.01  # a second grid rounds, too

# %% [markdown]
# Now turn the prior's sd from half a standard error to a thousand, for all twelve genes.

# %%
sds = np.array([0.5, 1, 2, np.sqrt(n / p), 20, 50, 200, 1000])
turned = np.array([[enumerate_sets(one, sd**2) for sd in sds] for one in genes])  # (gene, sd, set)
evidence, chances = logsumexp(turned, axis=2), softmax(turned, axis=2)
tau1 = chances @ ((k + 1) / (m + 2))
print("prior sd:", sds.tolist(), "\ntau1:    ", tau1[0].round(2).tolist())
assert np.all(np.diff(tau1[0]) < 0.001)  # the vaguer, the fewer; up to the grid's rounding
nothing = softmax(enumerate_sets(gene, 1e16)) @ ((k + 1) / (m + 2))
assert np.isclose(nothing, 1 / (m + 2), rtol=1e-6)  # in the limit no tissue is active: Beta(1, m + 1)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4))
left.plot(sds, tau1[1:].T, color="0.8", lw=1, ls="-")
left.plot(sds, tau1[0], color="C0", ls="-", marker="o", ms=5, label="this gene")
left.axhline(fit.params.tau1, color="C1", ls="--", label="EM")
left.axhline(learned_tau1[0], color="k", ls=":", label="hierarchical")
left.plot(sds[3], flat["tau1"].mean(), "s", color="k", mfc="none", ms=11, label="NUTS, default")
left.plot(sds[0], gene.active.mean(), "k*", ms=10, ls="none", label="truth")
left.set(title="The vaguer, the fewer", ylim=(0, 1), ylabel=r"$E(\tau_1 \mid Y)$, share of active tissues")
right.plot(sds, (evidence - evidence.max(axis=1, keepdims=True))[1:].T, color="0.8", lw=1, ls="-")
right.plot(sds, evidence[0] - evidence[0].max(), color="C0", ls="-", marker="o", ms=5)
right.set(title="The data have a say", ylabel="log evidence, less the best (nats)")
for ax in (left, right):
    ax.set(xscale="log", xlabel=r"prior sd of $\gamma$, in units of $\sigma$")
fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=5)
plt.show()

# %% [markdown]
# *Blue: this gene; grey: the other eleven. Left: $\tau_1$ sinks a little, and then to the floor, when the price exceeds
# what the tissues together can pay and "nothing is active" wins; where that happens is another matter in every gene.
# Right: the data prefer some scales to others, and the hierarchical mean leans on those.* Over the twelve genes:

# %%
truth = np.array([one.active for one in genes], dtype=float)
answers = {"EM": ([one.params.tau1 for one in fits], [one.posterior_probability for one in fits]),
           "default prior": (tau1[:, 3], chances[:, 3] @ active_sets),
           "vague prior": (tau1[:, -1], chances[:, -1] @ active_sets),
           "hierarchical mean": (learned_tau1, learned @ active_sets)}  # fmt: skip
excess = {name: np.array(share) - truth.mean(axis=1) for name, (share, _) in answers.items()}
brier = {name: np.mean((np.array(P) - truth) ** 2) for name, (_, P) in answers.items()}
for name, gap in excess.items():
    print(f"{name}: tau1 less the share active {gap.mean():+.2f} ± {gap.std(ddof=1) / 12**0.5:.2f}; "
          f"Brier score of P(I(t)=1) {brier[name]:.3f}")  # fmt: skip
assert excess["vague prior"].mean() < -2 * excess["vague prior"].std(ddof=1) / 12**0.5
assert brier["hierarchical mean"] < brier["EM"] < brier["vague prior"]

# %% [markdown]
# (The Brier score is the mean square of $P(I(t)=1)$ less the truth, 0 or 1: less is better.) A prior of your own goes
# in as `ebmodel.sample(X, Y, priors=WEAK.with_(gamma=Prior("Normal", mu=0, sigma=2)))`, with the names from
# `ebmodel.bayes`. Under a vague one NUTS meets two separate modes, some tissues active or none, and the verdict may
# well be that its draws are not sound; the enumeration has no such trouble, but stops at some twenty tissues.
#
# ## Which, when
#
# | you have | use | because |
# | --- | --- | --- |
# | thousands of genes to screen | EM | milliseconds a gene |
# | 25 tissues or more, intervals to report | EM with plug-in intervals | the three kinds hardly differ |
# | few tissues, intervals to report | the full posterior, or the bootstrap | plug-in intervals hold far too little |
# | few tissues, and no idea how large $\beta$ is | `mean="hierarchical"` | no scale to choose by accident |
# | a fit on a boundary | the full posterior | the edge is a maximum, not knowledge |
# | no prior that you would defend | EM and bootstrap | needs none; the bias of the fit stays |
# | many SNPs | no vague prior on $\beta$ | the price is paid once for each SNP |
#
# Both are the same model: where that is wrong, both are wrong alike.
#
# ## What to take away
#
# - EM takes the best parameters for the true ones. With few tissues that costs coverage; with many it costs little.
# - The posterior averages. It shrinks towards "do not know", which is not always towards zero.
# - Bootstrap and posterior both carry the parameters' uncertainty; neither owes you 95 % at every truth.
# - "Vague" is not neutral: only the slab has a mean to be vague about, so vagueness votes for the spike.
# - A scale learned from the data (`mean="hierarchical"`) removes the accident, not the uncertainty.
#
# ## Exercises
#
# 1. Draw the genes with `m=40` in place of 10 (leave out the enumeration). Do plug-in intervals catch up? (Nearly.)
# 2. Is averaging always more cautious? Find a distribution of the log odds of $I(t)=1$ such that the mean of $h_1$ is
#    *further* from one half than $h_1$ at their mean. (A mean near zero, and a long tail to one side.)
# 3. A colleague expects one tissue in ten to be active. Put $\tau_1 \sim \text{Beta}(1, 9)$ into the enumeration; no
#    set need be computed again. (Solved below.)
# 4. Derive the contribution of a coordinate to the likelihood of a set. (Its covariance is $vI + \kappa 11^\top$: use
#    the matrix determinant lemma and Sherman and Morrison.)
# 5. Show that each SNP adds one power of the sd to the price, and find the sd at which "nothing is active" becomes
#    likelier than all other sets together. (Solved below.)
# 6. `gamma ~ N(0, 1)` is a prior in the units of $Y$. Multiply $Y$ by 100: what happens to $E(\tau_1 \mid Y)$, and why
#    does it not happen under the default? (The first divides `ratio` by $100^2$; the default is relative to $\sigma$.)
#
# ## Solutions
#
# Exercise 3. Only the Beta function changes, so weigh the sets anew.

# %%
weight = chance * np.exp(betaln(k + 1, m - k + 9) - betaln(k + 1, m - k + 1))
few_expected = weight / weight.sum() @ ((k + 1) / (m + 10))
print(f"E(tau1 | Y) = {exact_tau1:.2f} with tau1 uniform, {few_expected:.2f} with Beta(1, 9)")
assert few_expected < exact_tau1 - 0.1

# %% [markdown]
# Exercise 5. As the sd grows $1 + k\kappa/v$ grows as its square, so that a set with $k > 0$ falls as $\text{sd}^{-p}$.

# %%
some = [logsumexp(enumerate_sets(gene, sd**2)[1:]) for sd in (1e4, 1e6)]  # the first set is empty
slope = (some[1] - some[0]) / np.log(1e6 / 1e4)
assert np.isclose(slope, -p, rtol=1e-4)  # the 1 in 1 + k kappa/v is what is left
odds = turned[0, :, 0] - logsumexp(turned[0, :, 1:], axis=1)  # log, nothing against something
crossing = np.exp(np.interp(0, odds, np.log(sds)))
print(f"slope {slope:.3f}; nothing is likelier than something from a prior sd of about {crossing:.0f} sigma on")
assert 5 < crossing < 1000
