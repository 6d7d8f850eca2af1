# %% [markdown]
# # 1. The model from scratch
#
# In which tissues do a gene's SNPs act, and how strongly? Xue & Li answer with a model in which every tissue is either
# untouched by the SNPs or has effects drawn around a mean that the active tissues share. Here we draw one gene from
# that model, reduce it to a few numbers a tissue, and compute its posterior in plain numpy, each step held against the
# package. At the end you can write down, compute and picture all that `ebmodel` reports of a tissue *once the
# parameters are known*; finding them is [2. EM step by step](02_em.ipynb). You need least squares, the normal density
# and Bayes' rule.

# %%
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import chi2, multivariate_normal

import ebmodel
from ebmodel import plot

plt.style.use("ebmodel.plot.style")
ACTIVE = {"marker": "o", "s": 26, "color": "C0", "label": "truly active"}
INACTIVE = {"marker": "s", "s": 26, "facecolors": "white", "edgecolors": "C1", "label": "truly inactive"}

# %% [markdown]
# ## A gene
#
# $X$ ($n \times p$) holds the genotypes of $n$ donors at $p$ SNPs, $Y$ ($n \times m$) one gene's expression in $m$
# tissues. For tissue $t$
#
# $$Y(t) = X\beta(t) + \varepsilon(t), \qquad \varepsilon(t) \sim N(0, \sigma^2 I_n) \tag{1}$$
#
# $$\beta(t) \mid I(t)=1 \sim N\big(\beta,\ \eta\,(X^\top X)^{-1}\big), \qquad \beta(t) \mid I(t)=0 \equiv 0 \tag{3}$$
#
# $$I(t) \sim \text{Bernoulli}(\tau_1), \qquad \tau_0 = 1 - \tau_1 \tag{4}$$
#
# The first line of (3) is the *slab*, the second the *spike*. The parameters are
# $\theta = (\tau_1, \beta, \eta, \sigma^2)$, and tissues are independent given $\theta$. There is no intercept: $X$ and
# $Y$ are taken as centred.
#
# Our gene has two SNPs in linkage disequilibrium (LD): the second mostly copies the first.

# %%
rng = np.random.default_rng(3)
first = rng.random((120, 2)) < 0.4  # two chromosomes a donor: does it carry the minor allele?
copied = rng.random((120, 2)) < 0.8
second = np.where(copied, first, rng.random((120, 2)) < 0.4)
X = np.column_stack([first.sum(axis=1), second.sum(axis=1)]).astype(float)  # minor alleles: 0, 1 or 2
X -= X.mean(axis=0)

theta = ebmodel.Params(tau1=0.5, beta=[0.85, -0.2], eta=6.0, sigma2=2.0)
gene = ebmodel.simulate.model_true(theta, X=X, m=50, seed=1)
Y, active = gene.Y.to_numpy(), gene.active.to_numpy()
(n, p), m = X.shape, Y.shape[1]
print(
    f"n = {n} donors, p = {p} SNPs, correlation {np.corrcoef(X.T)[0, 1]:.2f}; {active.sum()} of m = {m} tissues active"
)

# %% [markdown]
# The truth is known because we drew it: `gene.active` is $I(t)$, `gene.effects` is $\beta(t)$.
#
# ## Least squares, one tissue at a time
#
# $$\hat\beta(t) = (X^\top X)^{-1} X^\top Y(t) \tag{2}$$
#
# `ebmodel.oracle` gives the posterior at known parameters; least squares comes with it.

# %%
oracle = ebmodel.oracle(gene.X, gene.Y, theta)
betahat = np.linalg.solve(X.T @ X, X.T @ Y).T  # (2), one row a tissue
assert np.allclose(betahat, oracle.ols, rtol=1e-10)  # the same algebra: equal but for rounding

# %% [markdown]
# ## Whitening: from ellipses to circles
#
# The errors of $\hat\beta(t)$ have covariance $\sigma^2 (X^\top X)^{-1}$, and LD makes that a long ellipse. Write
# $X = QR$, with $Q^\top Q = I$ and $R$ upper triangular, and look at
#
# $$z(t) = Q^\top Y(t) = R\,\hat\beta(t), \qquad \gamma = R\beta .$$
#
# Since $X^\top X = R^\top R$, both $R\,\text{cov}(\hat\beta(t))R^\top = \sigma^2 I$ and
# $R\,\eta (X^\top X)^{-1} R^\top = \eta I$. So the model says, in $p$ coordinates whatever $n$ is,
#
# $$z(t) \mid I(t)=0 \sim N(0,\ \sigma^2 I_p), \qquad z(t) \mid I(t)=1 \sim N(\gamma,\ (\sigma^2+\eta) I_p).$$

# %%
tau1, eta, sigma2, beta = theta.tau1, theta.eta, theta.sigma2, theta.beta
Q, R = np.linalg.qr(X)
signs = np.sign(np.diag(R))  # QR leaves the signs open; nothing below depends on them
Q, R = Q * signs, R * signs[:, None]
z, gamma = (Q.T @ Y).T, R @ beta
assert np.allclose(z, betahat @ R.T, rtol=1e-10)  # Q'Y(t) = R betahat(t)
print(f"gamma = {gamma.round(2)}, at distance {np.linalg.norm(gamma):.1f}; sd of a coordinate: "
      f"{sigma2**0.5:.2f} (spike), {(sigma2 + eta) ** 0.5:.2f} (slab)")  # fmt: skip


# %%
def ring(mean, radius):
    """Points of a circle, (200, 2)."""
    angle = np.linspace(0, 2 * np.pi, 200)
    return mean + radius * np.column_stack([np.cos(angle), np.sin(angle)])


fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4.1))
for ax, points, back in ((left, betahat, np.linalg.inv(R)), (right, z, np.eye(p))):  # beta = R^-1 gamma
    for mean, variance, look in ((0 * gamma, sigma2, "C1--"), (gamma, sigma2 + eta, "C0-")):
        for radius in np.sqrt(variance * chi2(2).ppf([0.5, 0.9])):  # |z - mean|^2 / variance ~ chi2 with 2 degrees
            ax.plot(*(ring(mean, radius) @ back.T).T, look, lw=1.2)
        ax.plot(*(back @ mean), "k+", ms=10, mew=2, zorder=5)
    ax.scatter(*points[active].T, **ACTIVE, zorder=3)
    ax.scatter(*points[~active].T, **INACTIVE, zorder=3)
    ax.set_aspect("equal", adjustable="datalim")
left.set(title="least squares: two ellipses", xlabel="effect of SNP 1 (expression units per allele)",
         ylabel="effect of SNP 2 (same units)")  # fmt: skip
right.set(title="whitened: two circles", xlabel="$z_1(t)$ (expression units)", ylabel="$z_2(t)$")
right.annotate("spike", (-0.6, 3.1), color="C1", ha="center")
right.annotate("slab", (5.0, 5.4), color="C0", ha="center")
fig.legend(*left.get_legend_handles_labels(), loc="outside upper center", ncols=2)
plt.show()

# %% [markdown]
# *One mark a tissue, the same tissues left and right. Rings hold 50 % and 90 % of the spike (dashed) and the slab
# (solid); crosses are their means. Whitening turns both families of ellipses into circles at once. That is a property
# of the slab's covariance $\eta(X^\top X)^{-1}$, and the reason why all that follows is easy.*
#
# ## What is left: the residual sum of squares
#
# $z(t)$ keeps $p$ of the $n$ numbers in $Y(t)$. The other $n-p$ are residuals, and of them only their length matters:
# $\text{rss}(t) = \|Y(t)\|^2 - \|z(t)\|^2 \sim \sigma^2\chi^2_{n-p}$, in active and inactive tissues alike. A tissue's
# residuals say nothing of $I(t)$ or $\beta(t)$; they only inform $\sigma^2$.

# %%
rss = (Y**2).sum(axis=0) - (z**2).sum(axis=1)
fig, ax = plt.subplots(figsize=(6.4, 3.4))
ax.ecdf(rss[active], color="C0", ls="-", lw=1.8, label="truly active")
ax.ecdf(rss[~active], color="C1", ls="--", lw=1.8, label="truly inactive")
grid = np.linspace(140, 340, 200)
ax.plot(grid, chi2(n - p).cdf(grid / sigma2), color="0.4", ls=":", lw=1.8, label=r"$\sigma^2\chi^2_{n-p}$")
ax.set(title="Residuals do not know whether a tissue is active", ylabel="share of tissues below",
       xlabel="residual sum of squares (expression units²)")  # fmt: skip
ax.legend()
plt.show()

# %% [markdown]
# *Distribution of $\text{rss}(t)$ over tissues. Both staircases follow the same dotted curve; what separates them is
# chance.* With 4,000 tissues in place of 50 chance is small. Everything claimed so far, as standard errors away from
# the claim:

# %%
many = ebmodel.simulate.model_true(theta, X=X, m=4000, seed=2, posterior=False)
on, Z = many.active.to_numpy(), many.Y.to_numpy().T @ Q
left_over = (many.Y.to_numpy() ** 2).sum(axis=0) - (Z**2).sum(axis=1)


def z_scores(u, v):
    """Of N tissues with u ~ N(0, I_p) and, independently, v ~ chi2 with n - p degrees of freedom."""
    N, standard = len(u), (v - (n - p)) / np.sqrt(2 * (n - p))
    return {
        "mean of z is that of its part": u.mean() * np.sqrt(N * p),
        "variance of z is that of its part": (u**2 - 1).mean() * np.sqrt(N * p / 2),
        "z1 and z2 are uncorrelated": (u[:, 0] * u[:, 1]).mean() * np.sqrt(N),
        "mean of rss is sigma2 (n - p)": standard.mean() * np.sqrt(N),
        "rss and |z| are uncorrelated": np.corrcoef((u**2).sum(axis=1), v)[0, 1] * np.sqrt(N),
    }


spike = z_scores(Z[~on] / np.sqrt(sigma2), left_over[~on] / sigma2)
slab = z_scores((Z[on] - gamma) / np.sqrt(sigma2 + eta), left_over[on] / sigma2)
scores = pd.DataFrame({"spike": spike, "slab": slab})
print(scores.round(1).to_string())
assert scores.abs().to_numpy().max() < 4  # ten standard normals: beyond 4 once in 1,600 seeds

# %% [markdown]
# ## Three ways to the same likelihood
#
# $Y(t)$ is a rotation of $z(t)$ and $n-p$ residual coordinates, so its density is a product of two spherical ones. With
# $\psi$ the normal density and $H = X(X^\top X)^{-1}X^\top$,
#
# $$g_1 = \psi(Y(t);\ X\beta,\ \sigma^2 I + \eta H), \qquad g_0 = \psi(Y(t);\ 0,\ \sigma^2 I), \qquad
# \log p(Y) = \sum_t \log(\tau_1 g_1 + \tau_0 g_0).$$
#
# First from $(p, z, \text{rss})$; then by the $n \times n$ formulas as printed; then by the package.


# %%
def log_normal(distance2, variance, k):
    """Log density of N(., variance I_k) at this squared distance from its mean."""
    return -0.5 * (k * np.log(2 * np.pi * variance) + distance2 / variance)


log_rest = log_normal(rss, sigma2, n - p)  # in g1 and g0 alike
log_g1 = log_normal(((z - gamma) ** 2).sum(axis=1), sigma2 + eta, p) + log_rest
log_g0 = log_normal((z**2).sum(axis=1), sigma2, p) + log_rest
whitened = np.logaddexp(np.log(tau1) + log_g1, np.log(1 - tau1) + log_g0).sum()

H = X @ np.linalg.solve(X.T @ X, X.T)
dense_g1 = multivariate_normal(X @ beta, sigma2 * np.eye(n) + eta * H).logpdf(Y.T)
dense_g0 = multivariate_normal(np.zeros(n), sigma2 * np.eye(n)).logpdf(Y.T)
dense = np.logaddexp(np.log(tau1) + dense_g1, np.log(1 - tau1) + dense_g0).sum()

package = ebmodel.loglik(gene.X, gene.Y, theta)
print(f"log p(Y): {whitened:.6f} whitened, {dense:.6f} dense, {package:.6f} package")
assert np.allclose([dense, package], whitened, rtol=1e-10)  # the same number: rounding of n x n algebra

# %% [markdown]
# So $(z(t), \text{rss}(t))$ are *sufficient*: data with the same values, however different donor by donor, have the
# same likelihood at every $\theta$. The dimension $n$ survives only in a power of $\sigma^2$. Here are such data:
# every tissue's residuals replaced by other numbers of the same length.

# %%
noise = rng.standard_normal((n, m))
noise -= Q @ (Q.T @ noise)  # orthogonal to the SNPs
other = Q @ z.T + noise * np.sqrt(rss) / np.linalg.norm(noise, axis=0)
correlation = np.corrcoef((Y - Q @ z.T).ravel(), (other - Q @ z.T).ravel())[0, 1]
elsewhere = ebmodel.Params(tau1=0.2, beta=[-1.0, 1.0], eta=3.0, sigma2=5.0)  # any other theta
for at in (theta, elsewhere):
    assert np.isclose(ebmodel.loglik(X, other, at), ebmodel.loglik(X, Y, at), rtol=1e-10)  # exact algebra
print(f"residuals old and new correlate {correlation:.2f}; log p(Y) is the same at both parameters")
assert abs(correlation) < 0.1  # 50 x 118 independent directions: 0.1 is seven standard errors

# %% [markdown]
# ## Bayes' rule
#
# $$h_1 = P(I(t)=1 \mid Y) = \frac{\tau_1 g_1}{\tau_1 g_1 + \tau_0 g_0}, \qquad
# K_t = \frac{g_0}{g_1} \tag{6}$$
#
# $$O_t = K_t\,\frac{\tau_0}{\tau_1} \tag{7}$$
#
# Xue & Li's Bayes factor $K_t$ is that of the spike over the slab: *small* values speak for an effect. The residuals
# stand in $g_0$ and $g_1$ alike and cancel.

# %%
log_K = log_g0 - log_g1  # (6)
O = np.exp(log_K) * (1 - tau1) / tau1  # (7)
h1 = 1 / (1 + O)
assert np.allclose(log_K, oracle.log_bayes_factor, rtol=1e-10)  # exact algebra, here and below
assert np.allclose(h1, oracle.posterior_probability, rtol=1e-10)
assert np.allclose(
    log_K, log_normal((z**2).sum(axis=1), sigma2, p) - log_normal(((z - gamma) ** 2).sum(axis=1), sigma2 + eta, p)
)
print(
    f"P(I=1|Y) is above 1/2 in {(h1 > 0.5).sum()} tissues; {((h1 > 0.5) == active).sum()} of {m} are on the right side"
)

# %% [markdown]
# Where is the border? $\log O_t$ is quadratic in $z$, with the same curvature in every direction. Completing the
# square, it depends on $z$ only through its distance from $c = -\sigma^2\gamma/\eta$: tissues equally probable lie on
# circles around $c$.


# %%
def probability(points):
    """P(I = 1 | z) at whitened points (..., p)."""
    to_spike, to_slab = (points**2).sum(axis=-1), ((points - gamma) ** 2).sum(axis=-1)
    log_K = log_normal(to_spike, sigma2, p) - log_normal(to_slab, sigma2 + eta, p)
    return 1 / (1 + np.exp(log_K) * (1 - tau1) / tau1)


assert np.allclose(probability(z), h1, rtol=1e-10)
centre = -sigma2 / eta * gamma
for radius in (0.0, 2.0, 4.0):
    around = probability(ring(centre, radius))
    assert np.ptp(around) < 1e-10  # the same all around
    print(f"at distance {radius:g} from c: P(I=1|Y) = {around[0]:.3f}")

# %%
fig, ax = plt.subplots(figsize=(6.4, 5.0))
x, y = np.meshgrid(np.linspace(-7, 12, 200), np.linspace(-8, 8, 200))
surface = probability(np.stack([x, y], axis=-1))
shade = ax.pcolormesh(x, y, surface, cmap="Greys", vmin=0, vmax=2, rasterized=True)
levels = ax.contour(
    x, y, surface, levels=[0.1, 0.5, 0.95], colors="k", linewidths=[1, 2, 1], linestyles=["--", "-", "-."]
)
ax.clabel(levels, fmt="%g")
ax.scatter(*z[active].T, **ACTIVE, zorder=3)
ax.scatter(*z[~active].T, **INACTIVE, zorder=3)
ax.plot(*centre, "kx", ms=9, mew=2)
ax.annotate("c", centre, (-12, -12), textcoords="offset points")
ax.plot(*gamma, "k+", ms=11, mew=2)
ax.annotate(r"$\gamma$", gamma, (7, 5), textcoords="offset points")
ax.set(title="P(I=1|Y) depends on the distance from c alone", xlabel="$z_1(t)$ (expression units)",
       ylabel="$z_2(t)$ (expression units)", aspect="equal")  # fmt: skip
ax.legend(loc="lower left", fontsize=8, frameon=True)
plt.show()

# %% [markdown]
# *Darker is more probably active; labelled circles are where $P(I=1 \mid Y)$ is 0.1, 0.5 and 0.95. Tissues are called
# active where they lie far from $c$, in whichever direction.* Two things to see. A tissue whose effects point *away*
# from $\beta$ is called active if they are large: the question answered is "not noise?", not "like the others?". And
# evidence *for* the spike is bounded: no data bring $P(I=1 \mid Y)$ below its value at $c$ (exercise 3), while evidence
# for the slab has no limit.
#
# ## The posterior mean
#
# $$E(\beta(t) \mid Y) = h_1 \Big(\frac1\eta + \frac1{\sigma^2}\Big)^{-1}
# \Big(\frac{\beta}{\eta} + \frac{\hat\beta(t)}{\sigma^2}\Big) \tag{5}$$
#
# Two shrinkages, one after the other: towards $\beta$, the more the noisier least squares is; then towards zero, by
# $h_1$. The first has one weight in all directions, $\eta/(\eta+\sigma^2)$ for $\hat\beta(t)$, though LD makes
# $\hat\beta(t)$ far noisier in some than in others. That is the slab's doing, and we return to it below.

# %%
on_slab = (beta / eta + betahat / sigma2) / (1 / eta + 1 / sigma2)
effects = h1[:, None] * on_slab  # (5)
assert np.allclose(effects, oracle.effects, rtol=1e-10, atol=1e-12)
weight = eta / (eta + sigma2)
assert np.allclose(on_slab, beta + weight * (betahat - beta), rtol=1e-10)
print(f"weight of least squares, given I(t)=1: {weight:.2f} in every direction")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(8, 4.2))
for t in range(m):
    left.annotate("", effects[t], betahat[t], arrowprops={"arrowstyle": "->", "color": "0.55", "lw": 0.9})
left.scatter(*betahat[active].T, **ACTIVE, zorder=3)
left.scatter(*betahat[~active].T, **INACTIVE, zorder=3)
left.plot(*beta, "k+", ms=11, mew=2)
left.annotate(r"$\beta$", beta, (7, 4), textcoords="offset points")
left.set(title="towards $\\beta$ by the noise, to 0 by $h_1$", xlabel="effect of SNP 1 (expression units per allele)",
         ylabel="effect of SNP 2 (same units)")  # fmt: skip
left.legend(fontsize=8, loc="upper right")
plot.shrinkage(oracle, ax=right, units="units per allele")
right.set_title("both SNPs, all tissues", pad=22)
plt.show()

# %% [markdown]
# *Left: an arrow leads from each tissue's least-squares estimate to its posterior mean; `+` is $\beta$. Those of
# tissues with small $h_1$ end at the origin. Right: the package's `plot.shrinkage`, estimates of both SNPs across and
# up; darker is more probably active. Where $P(I=1 \mid Y)$ is low the posterior mean is near zero whatever least
# squares says.*
#
# ## A change of coordinates changes nothing
#
# Let $A$ be invertible. Replacing $X$ by $XA$, and effects by $A^{-1}$ times them, leaves $X\beta(t)$, $H$ and the slab
# $\eta(X^\top X)^{-1}$ as they are. So genotypes may be standardised, recoded as haplotypes or as principal
# components: the posterior is that of the same thing in other coordinates. A slab with independent effects, $\eta I$ in
# place of $\eta(X^\top X)^{-1}$, has no such property.

# %%
A = np.array([[1.0, 1.0], [1.0, -1.0]])
moved = ebmodel.oracle(X @ A, Y, replace(theta, beta=np.linalg.solve(A, beta)))
assert np.allclose(moved.posterior_probability, h1, rtol=1e-10)
assert np.allclose(moved.effects.to_numpy() @ A.T, effects, atol=1e-10)

alone = replace(theta, slab="independent", eta=0.25)
moved_alone = replace(alone, beta=np.linalg.solve(A, beta))
before, after = (
    ebmodel.oracle(*pair).posterior_probability.to_numpy() for pair in ((X, Y, alone), (X @ A, Y, moved_alone))
)
print(f"(X'X)^-1 slab: the same; independent slab: P(I=1|Y) changes by up to {np.abs(after - before).max():.2f}")
assert np.abs(after - before).max() > 0.01  # far above rounding: not equivariant

# %% [markdown]
# ## What the slab's covariance says
#
# $\eta(X^\top X)^{-1}$ is large where $X^\top X$ is small: in directions of effects that the genotypes say least about.
# With two SNPs in LD the strong direction is the sum of the effects (donors differ much in total allele count), the
# weak one the difference. Along an eigenvector of $X^\top X$ with eigenvalue $d$ the slab has variance $\eta/d$ and
# least squares $\sigma^2/d$, so the weight of least squares does not depend on $d$. Under independent effects, with
# covariance $\eta' I$, it is $\eta' d/(\sigma^2 + \eta' d)$. We give $\eta' I$ the same total variance.

# %%
d, U = np.linalg.eigh(X.T @ X)
total = eta * (1 / d).sum()  # trace of eta (X'X)^-1
eta_alone = total / p
table = pd.DataFrame({
    "X'X": d,
    "sd of least squares": np.sqrt(sigma2 / d),
    "sd of the slab": np.sqrt(eta / d),
    "sd if independent": np.sqrt(eta_alone) * np.ones(p),
    "weight": (eta / d) / (eta / d + sigma2 / d),
    "weight if independent": eta_alone / (eta_alone + sigma2 / d),
}, index=["weak direction", "strong direction"])  # fmt: skip
print(table.round(2).T.to_string())
assert np.ptp(table["weight"]) < 1e-10 < table["weight if independent"].diff().iloc[1]  # equal (exact); unequal

# %%
fig, ax = plt.subplots(figsize=(6.4, 4.6))
radius = np.sqrt(chi2(2).ppf(0.9))
circle = ring(np.zeros(p), radius)
for scale, look, label in (
    (eta, "C0-", "slab $\\eta(X^TX)^{-1}$"),
    (sigma2, "C1--", "error of least squares $\\sigma^2(X^TX)^{-1}$"),
):
    ax.plot(*(circle @ np.linalg.inv(R).T * np.sqrt(scale)).T, look, lw=1.8, label=label)
ax.plot(*(circle * np.sqrt(eta_alone)).T, "k:", lw=1.8, label="independent effects, same total variance")
for direction, name in zip(U.T, ("weak", "strong"), strict=True):
    direction = direction * np.sign(direction[0])
    ax.annotate("", 1.0 * direction, (0, 0), arrowprops={"arrowstyle": "->", "color": "0.4"})
    ax.annotate(name, 1.05 * direction, va="center", bbox={"fc": "white", "ec": "none", "pad": 1})
ax.set(title="The slab expects much where the data say little", xlabel="effect of SNP 1 (expression units per allele)",
       ylabel="effect of SNP 2 (same units)", aspect="equal")  # fmt: skip
fig.legend(loc="outside upper center", fontsize=8)
plt.show()

# %% [markdown]
# *Regions that hold 90 %, centred at zero. The slab (solid) is the error of least squares (dashed) enlarged by one
# factor in all directions; independent effects make a circle (dotted).* This shape is an **assumption**. It buys
# equivariance and the two circles; we know no biological reason why effects should be larger, and of opposite sign,
# just where LD hides them. Even the paper's own simulations draw effects from another slab, one that nearly is the
# inverse of this. What the assumption costs where it is wrong, and how the data can tell, is the subject of
# [7. Checking assumptions](07_checks.ipynb).
#
# ## What knowing the model is worth
#
# If $\theta$ is known no estimator has a smaller expected squared error than (5), which is then called the *oracle*.
# Over 300 genes with these genotypes and this $\theta$, against least squares, against zero, and against (5) with
# $h_1 = 1$ ("no spike"):

# %%
errors = []
for seed in range(300):
    data = ebmodel.simulate.model_true(theta, X=X, m=m, seed=1000 + seed, posterior=False)
    ols = np.linalg.solve(X.T @ X, X.T @ data.Y.to_numpy()).T  # (2)
    slab = beta + weight * (ols - beta)  # (5) with h1 = 1
    guesses = {"zero": 0 * ols, "ols": ols, "slab": slab, "oracle": probability(ols @ R.T)[:, None] * slab}
    errors.append({name: ((guess - data.effects.to_numpy()) ** 2).mean() for name, guess in guesses.items()})
errors = pd.DataFrame(errors)
exact = ebmodel.risk.bayes_risk(theta, X, list(errors)).risk.to_series() / p  # a mean over SNPs, as the paper's MSE
table = pd.DataFrame({"MSE": errors.mean(), "SE": errors.sem(), "exact": exact})
print(table.round(4).to_string())
assert ((table["MSE"] - table["exact"]).abs() < 4 * table["SE"]).all()  # Monte Carlo: four standard errors
gain = errors["ols"] - errors["oracle"]  # paired: the same data
print(f"least squares less oracle: {gain.mean():.4f} ± {gain.sem():.4f}")
assert gain.mean() > 10 * gain.sem()  # far beyond chance

# %% [markdown]
# The last column is `ebmodel.risk.bayes_risk`, which needs no simulation. So the whole curve over $\tau_1$ is cheap:

# %%
shares = np.linspace(0.02, 0.98, 25)
names = {"ols": "least squares", "zero": "every effect zero", "slab": "no spike", "oracle": "oracle (5)"}
curves = np.array([ebmodel.risk.bayes_risk(replace(theta, tau1=share), X, list(names)).risk / p for share in shares])
fig, ax = plt.subplots(figsize=(6.4, 3.8))
for name, curve, at in zip(names.values(), curves.T, (12, 9, 17, 12), strict=True):
    ax.plot(shares, curve, lw=1.8)
    ax.annotate(name, (shares[at], curve[at]), (-4, 5), textcoords="offset points", ha="right")
ax.errorbar([tau1] * 4, table["MSE"], 2 * table["SE"], fmt="kD", ms=4, capsize=3)
ax.set(ylim=(0, 0.4), xlabel=r"$\tau_1$, share of active tissues", ylabel="MSE (expression units² per allele²)",
       title="The oracle is best whatever the share of active tissues")  # fmt: skip
assert (curves[:, 3] < curves[:, :3].min(axis=1)).all()  # exact risks: the oracle is the least

# %% [markdown]
# *Lines: exact Bayes risks; diamonds: the simulation above, ± 2 SE. The oracle is best everywhere: near $\tau_1 = 0$ it
# becomes "zero", near $\tau_1 = 1$ "no spike".* It knows $\theta$, though. An estimator that must find $\theta$ in the
# same data can come near, no more.
#
# ## What to take away
#
# * One QR turns a gene into $p$ coordinates $z(t)$ and one $\text{rss}(t)$ a tissue: a mixture of two round normal
#   clouds and a scale. The number of donors is gone from the computation.
# * $P(I(t)=1 \mid Y)$ is Bayes' rule between the clouds; tissues equally probable lie on circles. It asks whether a
#   tissue is more than noise, not whether it is like the others.
# * The posterior mean shrinks twice: towards $\beta$, by the noise, and towards zero, by $h_1$.
# * All of it is equivariant under $X \to XA$ *because* the slab's covariance is $\eta (X^\top X)^{-1}$, which is an
#   assumption about effects, not a fact.
# * With $\theta$ known this is the best that can be done in mean squared error.
#
# ## Exercises
#
# 1. Set `eta=0.2` in $\theta$ and run the notebook again. Which asserts fail, if any? What do the circles of equal
#    probability become? (None should. $c$ moves far away, and circles look like straight lines.)
# 2. Append 1,000 donors whose centred genotypes are all zero. What changes: $\log p(Y)$, $h_1$, the effects? (Solved.)
# 3. Show that $P(I(t)=1 \mid Y)$ is least at $z = c$, where
#    $\log O_t = \log(\tau_0/\tau_1) + \frac p2 \log(1+\eta/\sigma^2) + \|\gamma\|^2/(2\eta)$. What if $\eta \to 0$?
#    (Solved.)
# 4. Derive (5) by completing the square in whitened coordinates. You find the slab's posterior variance on the way;
#    get from it the marginal sd of $\beta_j(t)$ given $Y$, and compare with `oracle.effects_sd`. (Solved.)
# 5. Let half of one tissue's responses be missing. Which of the two clouds of $Q_t^\top y_t$, with $Q_t$ the observed
#    rows of $Q$, is no longer round? (Both; their covariances still share eigenvectors.)
# 6. Prove that the oracle's risk with loss $\|X(\tilde\beta(t) - \beta(t))\|^2$ depends on $X$ and $\beta$ only through
#    $p$ and $\|\gamma\|$.
#
# ## Solutions
#
# **2.** $X^\top X$, $z$ and so $h_1$ and the effects stay; only $\text{rss}(t)$ and $n$ grow. Donors without variation
# tell about $\sigma^2$ alone, and $\sigma^2$ is known here.

# %%
longer_X = np.vstack([X, np.zeros((1000, p))])
longer_Y = np.vstack([Y, np.sqrt(sigma2) * rng.standard_normal((1000, m))])
longer = ebmodel.oracle(longer_X, longer_Y, theta)
assert np.allclose(longer.posterior_probability, h1, rtol=1e-8)  # exact algebra; rss lost a digit more to its sums
assert np.allclose(longer.effects, effects, rtol=1e-8, atol=1e-10)
print(f"log p(Y): {package:.0f} with {n} donors, {ebmodel.loglik(longer_X, longer_Y, theta):.0f} with {n + 1000}")

# %% [markdown]
# **3.** With $s = \sigma^2 + \eta$: $\|z\|^2/\sigma^2 - \|z-\gamma\|^2/s = \frac{\eta}{\sigma^2 s}\|z - c\|^2 -
# \|\gamma\|^2/\eta$, and $\log O_t$ is $-\frac12$ of that plus constants: largest at $z = c$. As $\eta \to 0$ the bound
# on the evidence for the spike goes away, and the circles become straight lines.

# %%
log_odds = np.log((1 - tau1) / tau1) + p / 2 * np.log(1 + eta / sigma2) + gamma @ gamma / (2 * eta)  # log O at c
print(f"P(I=1|Y) is never below {1 / (1 + np.exp(log_odds)):.3f}")
assert np.isclose(probability(centre), 1 / (1 + np.exp(log_odds)), rtol=1e-10)  # exact algebra
assert probability(Z).min() >= probability(centre)  # nor is it in any of 4,000 tissues

# %% [markdown]
# **4.** $\gamma(t) \mid z, I(t)=1 \sim N\big(\gamma + w(z-\gamma),\ w\sigma^2 I\big)$ with $w = \eta/(\eta+\sigma^2)$,
# so $\beta(t)$ has mean $\mu$ as in (5) without $h_1$ and covariance $w\sigma^2(X^\top X)^{-1}$; call its $j$-th
# variance $s_j^2$. With the spike, $\text{var} = h_1(s_j^2 + \mu_j^2) - h_1^2\mu_j^2$.

# %%
s2 = weight * sigma2 * np.diag(np.linalg.inv(X.T @ X))
sd = np.sqrt(h1[:, None] * (s2 + on_slab**2) - effects**2)
assert np.allclose(sd, oracle.effects_sd, rtol=1e-8)  # a difference of squares: some digits are lost
print(f"posterior sd between {sd.min():.3f} and {sd.max():.3f}")
