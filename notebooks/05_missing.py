# %% [markdown]
# # 5. Missing tissues
#
# No donor gives every tissue. In GTEx 706 of 838 donors gave muscle and 73 gave kidney cortex, so the tissues of one
# gene are regressions on the same SNPs with very different numbers of samples, a few with fewer samples than SNPs.
# Section 5 of Xue & Li extends the model to such data. At the end you can say what a tissue with few donors still
# tells, compute its likelihood and posterior by hand, say what it borrows from the others, and what happens if
# samples are *not* missing at random. Read [the model from scratch](01_model.ipynb) first; [EM](02_em.ipynb) helps
# with the exercises.

# %%
from itertools import product

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import multivariate_normal, spearmanr

import ebmodel

plt.style.use("ebmodel.plot.style")

# %% [markdown]
# ## The pattern
#
# Sizes are those of 24 of GTEx's tissues (release v8, samples with genotypes), scaled down to 160 donors. Who gives
# what is not independent over tissues: some donors give many, and brain regions come together or not at all. For now
# the pattern has nothing to do with expression. Genotypes are allele counts of 16 correlated SNPs, centred; effects
# are drawn from the model itself, equations (1), (3) and (4), so that everything below is under its assumptions until
# the last section.

# %%
counts = {
    "Muscle": 706, "Blood": 670, "Skin": 605, "Artery": 584, "Thyroid": 574, "Nerve": 532, "Lung": 515,
    "Esophagus": 497, "Fibroblasts": 483, "Heart": 386, "Colon": 368, "Stomach": 324, "Pancreas": 305,
    "Pituitary": 237, "Spleen": 227, "Cerebellum": 209, "Liver": 208, "Cortex": 205, "Caudate": 194,
    "Ovary": 167, "Hippocampus": 165, "Amygdala": 129, "Uterus": 129, "Kidney": 73,
}  # fmt: skip
tissues, n, m, p = list(counts), 160, len(counts), 16
n_t = np.rint(n * np.array(list(counts.values())) / 838).astype(int)

rng = np.random.default_rng(5)
brain = np.isin(tissues, ["Cerebellum", "Cortex", "Caudate", "Hippocampus", "Amygdala"])
willing = rng.standard_normal((n, 1)) + brain * rng.standard_normal((n, 1)) + rng.standard_normal((n, m))
W = willing.argsort(axis=0).argsort(axis=0) >= n - n_t  # tissue t has the n_t donors most willing to give it
assert (W.sum(axis=0) == n_t).all()

# %%
G = ebmodel.simulate.setting(4, n=n, seed=1).X.isel(snp=slice(p))  # real-looking allele counts: 0, 1, 2
X = G - G.mean("sample")
beta, eta, sigma2, tau1 = np.repeat([0.5, 0.0], [4, p - 4]), 4.0, 1.0, 0.5
theta = ebmodel.Params(tau1=tau1, beta=beta, eta=eta, sigma2=sigma2)


def draw(seed):
    gene = ebmodel.simulate.model_true(theta, X=X, m=m, seed=seed, posterior=False).assign_coords(tissue=tissues)
    return gene.assign(Y=gene.Y.where(W))  # NaN where the donor did not give the tissue


gene = draw(3)  # a seed with muscle, uterus and kidney active, which a figure below shows
print(gene.Y.to_pandas().iloc[:4, [0, 1, 15, 23]].round(2))
print(f"\nresponses missing: {1 - W.mean():.0%}")

# %%
fig, ax = plt.subplots(figsize=(7.5, 4.6))
ax.imshow(W[np.argsort(-W.sum(axis=1))].T, cmap="Greys", aspect="auto", interpolation="nearest", vmax=1.3)
ax.set_yticks(range(m), [f"{name}  {size}" for name, size in zip(tissues, n_t, strict=True)], fontsize=8)
ax.spines[["top", "right"]].set_visible(True)
ax.set(xlabel="donor, in order of how many tissues they gave", title="Dark: tissue t of that donor was measured, W(t)")
plt.show()
# %% [markdown]
# Numbers are $n_t$, the samples of the tissue. Rows thin out from top to bottom, columns from left to right.
#
# ## The model with missing responses
#
# Let $X_t$ ($n_t\times p$) and $y_t$ be the rows that were observed. Least squares uses them alone,
#
# $$\hat\beta_{\rm obs}(t) = (X_t'X_t)^{-1}X_t'y_t, \tag{10}$$
#
# and the two hypotheses about the tissue are
#
# $$y_t\mid I(t)=1 \sim N\big(X_t\beta,\ \sigma^2 I + \eta H_t\big),\qquad y_t\mid I(t)=0\sim N(0,\sigma^2I),
# \qquad H_t = X_t (X'X)^{-1}X_t' .$$
#
# Note the mixture inside $H_t$: rows of the tissue outside, $X'X$ over **all** $n$ donors inside. That is what (3)
# says: $\beta(t)\mid I(t)=1\sim N(\beta,\eta(X'X)^{-1})$ is a statement about the tissue, not about who happened to
# give it. Had we written $X_t'X_t$ instead, small tissues would have larger effects by assumption.

# %%
A = np.linalg.inv(X.values.T @ X.values)  # (X'X)^-1, all donors
print("prior sd of the first SNP's effect (expression units per allele)")
for name in ("Muscle", "Liver", "Kidney"):
    t = tissues.index(name)
    X_t = X.values[W[:, t]]
    exists = np.linalg.matrix_rank(X_t) == p
    own = f"{np.sqrt(eta * np.linalg.inv(X_t.T @ X_t)[0, 0]):.2f}" if exists else "does not exist"
    print(f"  {name:7s} n_t = {n_t[t]:3d}   with X'X: {np.sqrt(eta * A[0, 0]):.2f}   with X_t'X_t: {own}")

H, H_t = X.values @ A @ X.values.T, X_t @ A @ X_t.T  # of all donors, and of the kidney's
assert np.abs(H @ H - H).max() < 1e-10  # exact algebra: a projection ...
assert np.abs(H_t @ H_t - H_t).max() > 0.1  # ... which H_t is not, once rows are missing

# %% [markdown]
# ## How much of each direction is left
#
# Take $X = QR$, $\gamma = R\beta$ as in notebook 1. A tissue sees the rows $Q_t$ of $Q$, and
#
# $$Q_t'Q_t = V_t\,{\rm diag}(d_t)\,V_t',\qquad 0\le d_{tj}\le 1 .$$
#
# Along the direction $v_{tj}$ the whole sample would determine $v_{tj}'\gamma(t)$ with variance $\sigma^2$; the
# tissue determines it with variance $\sigma^2/d_{tj}$. So $d_{tj}$ is **the share of the information on that
# direction that is left**: 1 if nobody who matters for it is missing, 0 if nobody who matters was observed. The
# non-zero $d$'s are also the non-zero eigenvalues of $H_t$.

# %%
Q, R = np.linalg.qr(X.values)
gamma = R @ beta


def directions(rows):
    """d_t and V_t of Q_t'Q_t = V_t diag(d_t) V_t' (rounding errors in place of zeros taken for zeros)."""
    d, V = np.linalg.eigh(Q[rows].T @ Q[rows])
    return np.where(d > 1e-12, d, 0.0), V


d = np.array([directions(W[:, t])[0] for t in range(m)])
leverage = np.sum(Q**2, axis=1)
assert d.max() <= 1 + 1e-12  # exact algebra, but for rounding
assert np.allclose(d[-1][d[-1] > 0], np.linalg.eigvalsh(H_t)[-(d[-1] > 0).sum() :], rtol=0, atol=1e-10)
ranks = np.array([np.linalg.matrix_rank(X.values[rows]) for rows in W.T])
assert ((d > 0).sum(axis=1) == ranks).all()  # the others are lost altogether: p - n_t at least, where n_t < p
assert np.allclose(d.sum(axis=1), leverage @ W, rtol=0, atol=1e-10)  # sum of d = the observed donors' leverages
print(f"kidney: n_t = {n_t[-1]}, p = {p}, directions with d = 0: {(d[-1] == 0).sum()}")
print(f"mean d against n_t/n: largest difference {np.abs(d.mean(axis=1) - n_t / n).max():.3f}")
heart = d[tissues.index("Heart")]
print(f"heart: n_t/n = {n_t[9] / n:.2f}, its directions have d from {heart.min():.2f} to {heart.max():.2f}")
assert heart.max() > 2 * heart.min()  # shares differ, though donors are missing with no regard to genotype

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
left.plot(np.repeat(n_t / n, p), d.ravel(), "o", ms=3.5, mfc="none", color="#0072B2")
left.plot([0, 1], [0, 1], "--", color="0.3", label="$n_t/n$")
left.set(
    xlabel="share of donors observed, $n_t/n$", ylabel="information left, $d_{tj}$", title="16 directions a tissue"
)
left.legend(loc="upper left")
grid = np.linspace(0, 1, 101)
for phi, style in ((1, ":"), (4, "-"), (16, "--")):
    right.plot(grid, phi * grid / (1 + phi * grid), style, color="black")
    right.text(1.02, phi / (1 + phi), rf"$\eta/\sigma^2={phi}$", va="center", fontsize=9)
right.set(xlabel="information left, $d$", ylabel="weight of the data, " + r"$\eta d/(\sigma^2+\eta d)$", xlim=(0, 1.35))
right.set_title("From the common mean (0) to the data (1)", fontsize=11)
plt.show()

# %% [markdown]
# Left: each column of circles is one tissue. On average a tissue keeps $n_t/n$ of the information, but its directions
# differ widely. The column at the far left is kidney, with circles at zero. Right: what a direction's $d$ does to the
# estimate, as (11) will say.
#
# ## The marginal likelihood by hand
#
# With $a=V_t'\gamma$, $b=V_t'Q_t'y_t/d$ where $d>0$, $r_t=\#\{d>0\}$ and ${\rm rss}_t=\|y_t\|^2-\sum d\,b^2$,
#
# $$\log g_1 = -\tfrac12\Big[n_t\log2\pi+(n_t-r_t)\log\sigma^2+\sum_{d>0}\log(\sigma^2+\eta d)
# +\frac{{\rm rss}_t}{\sigma^2}+\sum_{d>0}\frac{d\,(b-a)^2}{\sigma^2+\eta d}\Big],$$
# $$\log g_0=-\tfrac12\big[n_t\log2\pi+n_t\log\sigma^2+\|y_t\|^2/\sigma^2\big].$$
#
# No $n_t\times n_t$ matrix is left in it. We hold it against dense normal densities, and their mixture against
# `ebmodel.loglik`.


# %%
def log_densities(y, rows):
    """log g1 and log g0 of one tissue, at the true parameters."""
    d, V = directions(rows)
    some = d > 0
    a, d, yy = (V.T @ gamma)[some], d[some], y @ y
    b = (V.T @ Q[rows].T @ y)[some] / d
    var, rss = sigma2 + eta * d, yy - np.sum(d * b**2)
    constant = len(y) * np.log(2 * np.pi)
    g1 = (
        constant
        + (len(y) - len(d)) * np.log(sigma2)
        + np.log(var).sum()
        + rss / sigma2
        + np.sum(d * (b - a) ** 2 / var)
    )
    return -0.5 * g1, -0.5 * (constant + len(y) * np.log(sigma2) + yy / sigma2)


by_hand, dense = np.empty((2, m)), np.empty((2, m))
for t in range(m):
    rows = W[:, t]
    y, X_t, identity = gene.Y.values[rows, t], X.values[rows], np.eye(n_t[t])
    by_hand[:, t] = log_densities(y, rows)
    dense[0, t] = multivariate_normal(X_t @ beta, sigma2 * identity + eta * X_t @ A @ X_t.T).logpdf(y)
    dense[1, t] = multivariate_normal(0 * y, sigma2 * identity).logpdf(y)
log_g1, log_g0 = by_hand
loglik = np.logaddexp(np.log(tau1) + log_g1, np.log(1 - tau1) + log_g0).sum()
print(f"log p(Y) by hand {loglik:.6f}, ebmodel.loglik {ebmodel.loglik(X, gene.Y, theta):.6f}")
assert np.abs(by_hand - dense).max() < 1e-10  # exact algebra
assert abs(loglik - ebmodel.loglik(X, gene.Y, theta)) < 1e-10

# %% [markdown]
# ## The posterior mean by hand
#
# $h_2 = \tau_1g_1/(\tau_1g_1+\tau_0g_0)$ is $P(I(t)=1\mid Y)$, and
#
# $$E(\beta(t)\mid Y)=h_2\Big(\frac{X'X}{\eta}+\frac{X_t'X_t}{\sigma^2}\Big)^{-1}
# \Big(\frac{X'X\beta}{\eta}+\frac{X_t'y_t}{\sigma^2}\Big).
# \tag{11}$$
#
# In the coordinates above the slab's part is, direction by direction, $(\sigma^2a+\eta d\,b)/(\sigma^2+\eta d)$: the
# common mean and the tissue's own estimate, weighed as in the right-hand figure. `ebmodel.oracle` gives the posterior
# at known parameters.

# %%
h2 = 1 / (1 + np.exp(np.log(1 - tau1) + log_g0 - np.log(tau1) - log_g1))
XX, effects = X.values.T @ X.values, np.empty((m, p))
for t in range(m):
    rows = W[:, t]
    y, X_t = gene.Y.values[rows, t], X.values[rows]
    slab = np.linalg.solve(XX / eta + X_t.T @ X_t / sigma2, XX @ beta / eta + X_t.T @ y / sigma2)
    effects[t] = h2[t] * slab  # (11)
    d_t, V = directions(rows)
    d_b = V.T @ Q[rows].T @ y  # d b, which is 0 where d is
    along = (sigma2 * (V.T @ gamma) + eta * d_b) / (sigma2 + eta * d_t)
    assert np.abs(np.linalg.solve(R, V @ along) - slab).max() < 1e-10  # exact algebra: (11), direction by direction
oracle = ebmodel.oracle(X, gene.Y, theta)
assert np.abs(effects - oracle.effects.values).max() < 1e-10  # exact algebra
assert np.abs(h2 - oracle.posterior_probability.values).max() < 1e-10
print("largest difference to ebmodel.oracle is below 1e-10 in every effect")

# %% [markdown]
# ## Fewer samples than SNPs
#
# (10) needs $X_t'X_t$ to be invertible; (11) does not, for $X'X/\eta$ is added to it. In the directions without
# information the estimate is the common mean, and its uncertainty that of the slab. `ebmodel.fit` estimates the
# parameters too, by maximum likelihood:

# %%
fit = ebmodel.fit(X, gene.Y)
kidney = fit.dataset.sel(tissue="Kidney")
print(fit)
print(f"kidney: n_t = {int(kidney.n)}, P(I = 1 | Y) = {float(kidney.posterior_probability):.2f}")
print("  least squares", fit.ols.sel(tissue="Kidney").values[:4])
print("  (11)         ", fit.effects.sel(tissue="Kidney").values[:4].round(2))
assert np.isnan(fit.ols.sel(tissue="Kidney")).all()
assert np.isfinite(fit.effects).all()
assert not np.isnan(fit.ols.drop_sel(tissue="Kidney")).any()

d_t, V = directions(W[:, -1])
lost = V[:, d_t == 0]  # directions of which kidney says nothing
slab = (fit.effects / fit.posterior_probability).sel(tissue="Kidney").values  # E(beta(t) | Y, I(t)=1)
assert np.abs(lost.T @ R @ (slab - fit.params.beta.values)).max() < 1e-8  # there, it is the fitted common mean

# %%
fig, axes = plt.subplots(1, 3, figsize=(8, 3.6), sharey=True)
for ax, name in zip(axes, ("Muscle", "Uterus", "Kidney"), strict=True):
    one, truth = fit.dataset.sel(tissue=name), gene.effects.sel(tissue=name)
    assert bool(gene.active.sel(tissue=name))
    at = np.arange(1, p + 1)
    ax.errorbar(
        at, one.effects, one.effects_sd, fmt="o", ms=5, color="#0072B2", capsize=2, label="(11), ± posterior sd"
    )
    ax.plot(at, one.ols, "s", ms=5, mfc="none", color="#D55E00", label="least squares (10)")
    ax.plot(at, truth, "_", ms=9, mew=2, color="black", label="truth")
    ax.set(xlabel="SNP", title=f"{name}, $n_t={int(one.n)}$", xticks=[1, 4, 8, 12, 16])
axes[0].set_ylabel("effect (expression units per allele)")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
plt.show()
# %% [markdown]
# All three tissues are truly active. Squares (least squares) are near the truth in muscle, far out in uterus, where
# there are hardly more samples than SNPs, and absent in kidney. Circles stay sensible in all three, the more
# uncertain the fewer samples there are. (Bars are one posterior sd at the fitted parameters; that the parameters are
# fitted too is not in them.)
#
# ## The two ends: nothing missing, nothing observed
#
# With complete data every $d=1$, and (11) becomes (5) of notebook 1: one weight $\eta/(\sigma^2+\eta)$ for all
# directions. With nothing observed $d=0$, $g_1=g_0=1$, and the posterior is the prior: the Bayes factor (6) is 1,
# $P(I(t)=1\mid Y)=\tau_1$ and $E(\beta(t)\mid Y)=\tau_1\beta$.

# %%
full = ebmodel.simulate.model_true(theta, X=X, m=m, seed=3)  # the same draws, nothing missing
assert np.abs(directions(np.full(n, True))[0] - 1).max() < 1e-10  # every d is 1
betahat = np.linalg.solve(XX, X.values.T @ full.Y.values).T  # (2)
h1 = ebmodel.oracle(X, full.Y, theta).posterior_probability.values[:, None]
five = h1 * (beta / eta + betahat / sigma2) / (1 / eta + 1 / sigma2)  # (5)
assert np.abs(five - ebmodel.oracle(X, full.Y, theta).effects.values).max() < 1e-10  # exact algebra

without = gene.Y.where(gene.tissue != "Kidney")  # as if no donor had given kidney
empty = ebmodel.fit(X, without)
one = empty.dataset.sel(tissue="Kidney")
print(f"kidney, n_t = {int(one.n)}: P = {float(one.posterior_probability):.3f}, tau1 = {empty.params.tau1:.3f}")
assert abs(float(one.posterior_probability) - empty.params.tau1) < 1e-12  # exact algebra
assert float(one.log_bayes_factor) == 0.0
assert np.abs(one.effects - empty.params.tau1 * empty.params.beta).max() < 1e-12
rest = ebmodel.fit(X, without.drop_sel(tissue="Kidney"))
assert abs(empty.loglik - rest.loglik) < 1e-8  # the other tissues' fit is as if it were not there, to EM's tolerance

# %% [markdown]
# So a probability above one half may contain no data at all: look at `log_bayes_factor`, which says what the *tissue*
# says, and at $n_t$.
#
# ## What borrowing strength gives
#
# The pattern, $X$ and the parameters stay; effects and errors are drawn anew 60 times. Least squares has a mean
# squared error that we know, $\sigma^2\,{\rm tr}(X_t'X_t)^{-1}/p$, which checks the simulation. Estimating every
# effect as zero is the other yardstick.


# %%
def squared_errors(seed):
    data = draw(seed)
    found = ebmodel.fit(X, data.Y)
    estimates = {"EB": found.effects, "least squares": found.ols, "zero": 0 * found.effects}
    squares = {name: ((one - data.effects) ** 2).mean("snp", skipna=False) for name, one in estimates.items()}
    return xr.Dataset(squares | {"active": data.active})


def sem(values):
    return values.std("data", ddof=1, skipna=False) / np.sqrt(values.sizes["data"])


errors = xr.concat([squared_errors(seed) for seed in range(1000, 1060)], "data")
mse = errors[["EB", "least squares", "zero"]].mean("data", skipna=False)
tested = errors.isel(tissue=slice(-1))  # kidney has no least squares
active = tested.where(tested.active).mean("data")
table = pd.concat([mse.to_pandas(), active[["EB", "least squares"]].to_pandas().add_suffix(", active")], axis=1)
print(table.assign(n_t=n_t).loc[["Muscle", "Heart", "Liver", "Hippocampus", "Amygdala", "Kidney"]].T.round(3))

# %%
ols, eb = tested["least squares"], tested["EB"]
known = np.array([sigma2 * np.trace(np.linalg.inv(X.values[rows].T @ X.values[rows])) / p for rows in W.T[:-1]])
assert (abs(ols.mean("data") - known) < 4 * sem(ols)).all()  # each of 23 tissues, to Monte Carlo error
assert ((ols - eb).mean("data") > 3 * sem(ols - eb)).all()  # EB is the better in every tissue, far beyond that error
few = (errors["zero"] - errors["EB"]).isel(tissue=n_t < 35).mean("tissue")
assert few.mean() > 3 * sem(few)  # in the smallest tissues, kidney among them, EB is better than zero
assert (active["EB"] < active["least squares"]).all()  # not only because inactive tissues are set to zero

gain = (mse["least squares"] / mse["EB"]).isel(tissue=slice(-1)).to_pandas()
trend = spearmanr(n_t[:-1], gain).statistic
print(f"MSE of least squares over EB: {gain.min():.1f} ({gain.idxmin()}) to {gain.max():.1f} ({gain.idxmax()})")
print(f"its rank correlation with n_t: {trend:.2f}")
assert trend < -0.8  # the fewer samples, the more there is to borrow

# %%
fig, ax = plt.subplots(figsize=(7, 4))
ax.plot(n_t[:-1], known, "_", ms=14, color="black", label="least squares, exact", zorder=4)
ax.errorbar(n_t[:-1], ols.mean("data"), sem(ols), fmt="s", mfc="white", color="#D55E00", label="least squares (10)")
ax.errorbar(n_t, mse["zero"], sem(errors["zero"]), fmt="x", color="0.5", label="every effect 0")
ax.errorbar(n_t, mse["EB"], sem(errors["EB"]), fmt="o", color="#0072B2", label="EB (11)")
ax.axvline(p, color="0.5", ls=":", lw=1)
ax.text(p + 0.3, 1.4, "$n_t=p$", fontsize=9)
ax.set(xscale="log", yscale="log", xticks=[15, 25, 50, 100], xticklabels=[15, 25, 50, 100])
ax.xaxis.minorticks_off()
ax.set(xlabel="samples of the tissue, $n_t$", ylabel="MSE, (expression units per allele)²")
ax.set_title("The fewer samples, the more there is to borrow")
ax.legend()
plt.show()

# %% [markdown]
# Means over 60 data sets, with standard errors. Least squares rises steeply as $n_t$ falls to $p$ and stops there; EB
# rises slowly towards "every effect 0" and passes $n_t=p$ without noticing. The table has active tissues apart: EB
# gains there too. But these effects come from the very slab that the fit assumes. Where real ones do not, a small
# tissue inherits the assumption most: [checking it](07_checks.ipynb) is a notebook of its own.
#
# ## The limits: missing at random
#
# All of this ignores *why* responses are missing. That is right only if, given what was observed, it does not depend
# on the lost values themselves. `ebmodel.simulate.violated("missing-by-value", s, ...)` loses high responses more
# often: log odds rise by $s$ for each sd of the response. We measure bias by the slope of estimated on true effects,
# over active tissues of a size: 1 for unbiased least squares, below 1 for EB, which shrinks.


# %%
def lose(s, seed):
    share = 1 - n_t / n
    data = ebmodel.simulate.violated("missing-by-value", s, theta, X=X, m=m, missing=share, seed=seed)
    return data.assign_coords(tissue=tissues)


def slope(estimate, data, sizes):
    use = data.active.values & sizes & np.isfinite(estimate.values).all(axis=1)
    found, true = estimate.values[use], data.effects.values[use]
    return np.sum(found * true) / np.sum(true**2)


sizes = {"32 to 74 samples": (n_t > 30) & (n_t < 75), "92 or more": n_t > 90}
records = []
for s, seed, intercept in product((0, 1, 2), range(20), ("none", "each")):
    data = lose(s, seed)
    found = ebmodel.fit(X, data.Y, intercept=intercept == "each")
    for (group, use), name in product(sizes.items(), ("least squares", "EB")):
        one = slope(found.ols if name == "least squares" else found.effects, data, use)
        records.append((group, name, intercept, s, one))
keys = ["tissues", "estimate", "intercept", "s"]
slopes = pd.DataFrame(records, columns=[*keys, "slope"]).groupby(keys).slope.agg(["mean", "sem"]).to_xarray()
for group, name, intercept in product(sizes, ("least squares", "EB"), ("none", "each")):
    one = slopes.sel(tissues=group, estimate=name, intercept=intercept)
    values = [f"s={s}: {one['mean'].sel(s=s):.2f} ± {one['sem'].sel(s=s):.2f}" for s in (0, 1, 2)]
    print(f"{group:16s}  {name:13s}  intercept: {intercept}  ", "   ".join(values))

# %%
z = ((slopes["mean"] - 1) / slopes["sem"]).sel(estimate="least squares")
assert (abs(z.sel(s=0)) < 3.5).all()  # missing at random: unbiased, to Monte Carlo error
assert (z.sel(s=2, intercept="each") < -5).all()  # with intercepts biased towards 0, far beyond that error
loss = 1 - slopes["mean"].sel(s=2, estimate="least squares", intercept="each")
assert loss.sel(tissues="92 or more") < loss.sel(tissues="32 to 74 samples")  # less bias where less is lost
assert z.sel(s=2, intercept="none", tissues="32 to 74 samples") > 3  # without them away from 0, in small tissues
small = slopes.sel(tissues="32 to 74 samples")
fall = small["mean"].sel(estimate="EB", intercept="each")
assert fall.sel(s=2) < fall.sel(s=0) - 0.1  # EB goes along

fig, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
for name, intercept in product(("least squares", "EB"), ("none", "each")):
    one = small.sel(estimate=name, intercept=intercept)
    colour, marker = ("#0072B2", "o") if name == "EB" else ("#D55E00", "s")
    look = {"ls": "--", "mfc": "white"} if intercept == "each" else {"ls": "-", "mfc": colour}
    label = f"{name}, intercept: {intercept}"
    left.errorbar((0, 1, 2), one["mean"], one["sem"], marker=marker, color=colour, label=label, **look)
left.axhline(1, color="0.5", ls=":", lw=1)
left.set(xlabel="strength $s$ (log odds per sd)", ylabel="slope on true effects", xticks=(0, 1, 2), ylim=(0, 2.1))
left.set_title("Bias, tissues of 32 to 74 samples")
left.legend(fontsize=8, loc="upper left")
for s, style in ((0, "--"), (1, "-")):
    data = lose(s, 100)
    row = ebmodel.check(ebmodel.fit(X, data.Y), checks="missing-at-random", replicates=199, progress=False).squeeze()
    print(f"s = {s}: p = {float(row.p_value):.3f}, {row.verdict.item()}; {row.meaning.item()}")
    right.axvline(float(row.observed), color="black", ls=style, label=f"observed, s = {s}")
    assert (float(row.p_value) <= 0.01) == (s == 1)  # the check finds it, and only where it is
right.hist(row.reference, bins=12, color="0.85", edgecolor="0.3", label="shuffled, s = 1")
right.set(xlabel="|z| of the check", ylabel="shuffles", title="The check “missing-at-random”")
right.legend(fontsize=8)
plt.show()

# %% [markdown]
# Left: where high responses go missing, effects are biased, and *which way* depends on a detail: whether a tissue has
# an intercept (`intercept=True`; dashed) or not (the paper's $Y$ is taken as centred). With one, effects come out too
# small; without one, what is left of the mean response passes for effects, most in small tissues. Neither is right,
# and no estimator that ignores the mechanism can be. With intercepts, large tissues suffer less: less of them is
# lost.
#
# Right: the check asks whether those donors are missing whose *genetic prediction* is high, and compares with
# patterns shuffled over donors. It can only see loss that goes with genotype, through active tissues. Loss by causes
# that genotypes do not predict escapes it, and in a gene without effects everything does.
#
# Two more things the model does not know: tissues of one donor share that donor, so that their errors may be
# correlated (the subject of [notebook 7](07_checks.ipynb)); and who gives which tissue depends on age, sex and cause
# of death, which belong among the covariates.
#
# ## What to take away
#
# - $H_t$ has the tissue's rows outside and $X'X$ of all donors inside: the slab is the same for every tissue,
#   whatever its size.
# - $d_{tj}$ is the share of information left on a direction. It is 1 for complete data, gives (5) back, and 0 where
#   the tissue says nothing.
# - (11) exists where (10) does not: without information the estimate is the common mean, with the slab's uncertainty.
# - Borrowing gains most in the smallest tissues, if tissues do share what the model says they share.
# - A tissue without data has $P(I(t)=1\mid Y)=\tau_1$: a probability is not evidence, a Bayes factor is.
# - Missingness that depends on the lost values biases everything, in a direction that depends on details; the check
#   sees only what goes with genotype.
#
# ## Exercises
#
# 1. *Change one number.* Set $p$ to 30. How many tissues lose least squares? (All with $n_t<30$: amygdala, uterus and
#    kidney.) What does the last figure but one look like?
# 2. *Prove* that $\sum_j d_{tj}$ is the sum of the observed donors' leverages, and so $p\,n_t/n$ on average over
#    patterns drawn completely at random. Check by drawing (solution below).
# 3. *Prove* (11) from the joint normal density of $\beta(t)$ and $y_t$, and that it is (5) where nothing is missing.
# 4. *Derive* the M-step for $\gamma$: given $T_t=h_2$ it is weighted least squares with weights $T_tV_t{\rm
#    diag}(d/(\sigma^2+\eta d))V_t'$. Show that a fit is a fixed point of it (solution below).
# 5. *A false alarm?* Let donors be missing by *genotype*. That is missing at random. What do the check and least
#    squares say? (Solution below.)
# 6. *Implement* the slab with $X_t'X_t$ in place of $X'X$ at known parameters. On data from the model its MSE is
#    larger (about twice, at 40 samples), and it has nothing to say of kidney.
#
# ## Solutions

# %%
# Exercise 2: trace(Q_t'Q_t) = sum over observed rows of |q_i|^2; each donor is observed with probability n_t/n
rng = np.random.default_rng(2)
sums = np.array([directions(rng.permutation(n) < 40)[0].sum() for _ in range(400)])
print(f"sum of d with 40 donors: {sums.mean():.3f} ± {pd.Series(sums).sem():.3f}, expected {p * 40 / n}")
assert abs(sums.mean() - p * 40 / n) < 4 * pd.Series(sums).sem()

# %%
# Exercise 4: one M-step for gamma from the fit's own posterior probabilities gives the fit's beta back
T, theta_hat = fit.posterior_probability.values, fit.params
left_side, right_side = np.zeros((p, p)), np.zeros(p)
for t in range(m):
    d_t, V = directions(W[:, t])
    weight = T[t] / (theta_hat.sigma2 + theta_hat.eta * d_t)
    left_side += V @ np.diag(weight * d_t) @ V.T
    right_side += V @ (weight * (V.T @ Q[W[:, t]].T @ gene.Y.values[W[:, t], t]))  # d b = V'Q_t'y_t
step = np.linalg.solve(R, np.linalg.solve(left_side, right_side))
print(f"largest move of beta: {np.abs(step - theta_hat.beta.values).max():.1e}")
assert np.abs(step - theta_hat.beta.values).max() < 1e-6  # a fixed point, to the tolerance at which EM stops

# %%
# Exercise 5: the donors with the highest genetic prediction are missing more often, whatever their expression
p_values, found = [], []
for seed in range(12):
    data = ebmodel.simulate.model_true(theta, X=X, m=m, seed=seed, posterior=False).assign_coords(tissue=tissues)
    u = X.values @ beta  # the same in all tissues, known without any expression
    score = np.random.default_rng(seed).logistic(size=(n, m)) - 1.5 * (u / u.std())[:, None]
    data = data.assign(Y=data.Y.where(score.argsort(0).argsort(0) >= n - n_t))
    again = ebmodel.fit(X, data.Y)
    row = ebmodel.check(again, checks="missing-at-random", replicates=99, progress=False)
    p_values.append(row.p_value.item())
    found.append(slope(again.ols, data, n_t > 30))
fires = np.mean(np.array(p_values) <= 0.05)
print(f"the check fires in {fires:.0%} of data sets; slope {np.mean(found):.3f} ± {pd.Series(found).sem():.3f}")
assert fires > 0.5  # it cannot tell genotype from expression
assert abs(np.mean(found) - 1) < 3 * pd.Series(found).sem()  # and least squares is unbiased all the same
