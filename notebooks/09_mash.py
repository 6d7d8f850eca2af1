# %% [markdown]
# # 9. mash, and when to use which
#
# The regression of the other notebooks takes one gene's genotypes and expression. mash (Urbut, Wang, Carbonetto &
# Stephens 2019) takes another road: estimates and standard errors of many effects in many conditions, and nothing else.
# At the end you can write its likelihood, fit and posterior in a few lines each, read its results, say when its local
# false sign rates can be trusted, and choose between the two roads. Read [1. The model from scratch](01_model.ipynb)
# before; [2. EM](02_em.ipynb) helps.

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import multivariate_normal, norm

import ebmodel
from ebmodel import mash
from ebmodel.calibration import auc
from ebmodel.plot import mash as draw

plt.style.use("ebmodel.plot.style")

# %% [markdown]
# ## The model
#
# Effect $j$ (a SNP and a gene, say) has been estimated in $R$ conditions, as $\hat b_j$ with standard errors $s_j$:
#
# $$\hat b_j \mid b_j \sim N_R(b_j, V_j), \quad V_j = S_j C S_j, \qquad
#   b_j \sim \pi_0 \delta_0 + \sum_{k,l} \pi_{kl}\, N_R(0, \omega_l^2 U_k),$$
#
# with $S_j$ the diagonal matrix of $s_j$ and $C$ the correlation of errors between conditions. Each $U_k$ is a pattern
# of sharing, each $\omega_l$ a size. Both are fixed beforehand; only the weights are learned, from all effects at once.
#
# Given its component an estimate is normal, $\hat b_j \sim N(0, V_j + \omega_l^2 U_k)$: every effect has a likelihood
# under every component, and the weights see the data through that matrix $L$ alone.
#
# Two conditions can be drawn. Half of the effects are null, some are equal in A and B, some are in A alone; standard
# errors are 1. The model also offers a pattern that no effect follows: independent in A and B.

# %%
rng = np.random.default_rng(1)
J = 1000
kind = rng.choice(["null", "equal", "A alone"], size=J, p=[0.5, 0.3, 0.2])
load = {"null": [0, 0], "equal": [1, 1], "A alone": [1, 0]}
b = 3 * rng.standard_normal((J, 1)) * [load[k] for k in kind]
toy = b + rng.standard_normal((J, 2))

U = {"equal": np.ones((2, 2)), "A alone": np.diag([1.0, 0.0]), "independent": np.eye(2)}
grid, V = np.array([1.5, 3.0]), np.eye(2)
components = [np.zeros((2, 2))] + [omega**2 * U_k for U_k in U.values() for omega in grid]  # the first: the point mass
L = np.column_stack([multivariate_normal.pdf(toy, np.zeros(2), V + C) for C in components])
print("effects x components:", L.shape)
print("effect 1: estimates", toy[0].round(2), "log-likelihoods (nats)", np.log(L[0]).round(1))

# %% [markdown]
# ## Weights: EM, and a certificate
#
# The weights maximise a penalised log-likelihood,
#
# $$\phi(\pi) = \sum_j \log (L\pi)_j + a \log \pi_0, \qquad \pi \ge 0,\ \sum \pi = 1.$$
#
# mash takes $a = 9$ (`null_weight=10`, which is $a + 1$, as in a Dirichlet prior), to err on the side of no effects;
# $a = 0$ is maximum likelihood. EM is two lines: responsibilities, then their sums. When to stop?
#
# $\phi$ is concave, so there is one maximum, and we can say how far from it we are. With $g$ the gradient and
# $N = J + a$, concavity and $g'\pi = N$ give for the best $\pi^*$
#
# $$\phi(\pi^*) - \phi(\pi) \le g'(\pi^* - \pi) \le \max_p g_p - N,$$
#
# which is known without knowing $\pi^*$: a certificate. EM stops where it is a hundredth of a nat. (The regression's
# mixture has none, as its components' means and variances are unknown too; hence its many starts.)


# %%
def phi(L, a, pi):
    return np.log(L @ pi).sum() + a * np.log(pi[0])


def certificate(L, a, pi):
    g = (L / (L @ pi)[:, None]).sum(axis=0)
    g[0] += a / pi[0]
    return g.max() - (len(L) + a)


def em(L, a, enough=0.01):
    pi = np.full(L.shape[1], 1 / L.shape[1])
    while certificate(L, a, pi) > enough:
        r = pi * L / (L @ pi)[:, None]  # E: P(component | estimate)
        pi = (r.sum(axis=0) + a * (np.arange(len(pi)) == 0)) / (len(L) + a)  # M
    return pi


# %% [markdown]
# The same problem posed to the package: the same covariances, grid and penalty. Its algorithm is a faster one.

# %%
rows = {}
for a in [0, 9]:
    pi = em(L, a)
    fit = mash.fit(toy, 1.0, covariances=U, grid=grid, null_weight=a + 1)
    theirs = np.append(fit.null_weight, fit.weights.values)
    rows[f"EM, a = {a}"], rows[f"mash.fit, a = {a}"] = pi, theirs
    short = phi(L, a, theirs) - phi(L, a, pi)
    print(f"a = {a}: EM is {short:.4f} nats below mash.fit; its certificate says at most {certificate(L, a, pi):.4f}")
    assert 0 < short <= certificate(L, a, pi)  # a theorem, as no weights are better than mash.fit's by 1e-8
    assert fit.gap < 1e-8
    assert np.isclose(fit.loglik, phi(L, 0, theirs), rtol=1e-12)  # the same function: algebra
    assert np.abs(pi - theirs).max() < 0.01  # near the maximum phi is flat: weights agree less well than phi
names = ["null"] + [f"{name}, {omega:g}" for name in U for omega in grid]
table = pd.DataFrame(rows, index=names)
print(table.round(3).to_string())
assert table["mash.fit, a = 9"]["null"] > table["mash.fit, a = 0"]["null"]  # null-biased

# %% [markdown]
# The pattern that no effect follows has weight zero, and the point mass has about its half. The penalty counts like
# nine more effects known to be null, but can move more weight than that: small effects are hard to tell from none.
#
# The learned prior lives on a point and two lines, so the contours on the left are of the density that it expects of
# *estimates*, error included. On the right every estimate has been replaced by its posterior mean.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
x = np.linspace(-8, 8, 161)
at = np.dstack(np.meshgrid(x, x))
density = sum(w * multivariate_normal.pdf(at, np.zeros(2), V + C) for w, C in zip(theirs, components, strict=True))
for ax, points in [(left, toy), (right, fit.mean.values)]:
    for name, mark, size in [("null", ".", 8), ("equal", "x", 14), ("A alone", "^", 10)]:
        of = kind == name
        ax.scatter(*points[of].T, marker=mark, s=size, label=f"truly {name}", alpha=0.6, linewidths=0.8)
    ax.set(xlabel="effect in A (standard errors)", xlim=(-8, 8), ylim=(-8, 8), aspect="equal")
left.contour(x, x, np.log10(density), levels=[-5, -4, -3, -2], colors="black", linestyles="-", linewidths=0.9)
left.set(ylabel="effect in B (standard errors)", title="Estimates, and the density learned")
right.set_title("Posterior means go to the point or a line")
right.legend(loc="upper left")
plt.show()

# %% [markdown]
# Contours are powers of ten. A small estimate goes to the origin, a large one to the line of the pattern that explains
# it better; between the lines the posterior averages over patterns.
#
# ## The posterior of one effect by hand
#
# Given its component, $b_j$ is normal, so the posterior is a mixture of normals, with responsibilities for weights. The
# local false sign rate is the probability of being wrong in claiming the likelier sign,
#
# $$\mathrm{lfsr} = \min\{P(b \le 0 \mid \hat b),\ P(b \ge 0 \mid \hat b)\},$$
#
# where being exactly zero counts against both. A condition without an estimate is left out of the likelihood, and its
# effect is predicted from the others': a missing cell costs nothing but a smaller matrix.


# %%
def by_hand(estimate, V, components, pi):
    seen, r, mu, var = ~np.isnan(estimate), [], [], []
    y = estimate[seen]
    for C, weight in zip(components, pi, strict=True):
        total = (C + V)[np.ix_(seen, seen)]
        gain = np.linalg.solve(total, C[seen]).T  # E(b | y, component) = gain y
        r.append(weight * multivariate_normal.pdf(y, np.zeros(len(y)), total))
        mu.append(gain @ y)
        var.append(np.diag(C - gain @ C[seen]))
    r, mu, var = np.array(r) / np.sum(r), np.array(mu), np.array(var)
    mean = r @ mu
    sd = np.sqrt(r @ (mu**2 + var) - mean**2)
    exact = var < 1e-12  # components in which the effect is exactly zero
    negative = r @ np.where(exact, 0, norm.cdf(0, mu, np.sqrt(np.where(exact, 1, var))))
    zero = r @ exact
    return np.array([mean, sd, np.minimum(negative + zero, 1 - negative)])


# %%
between = np.abs(fit.responsibilities().values[:, [2, 4]] - 0.4).sum(axis=1).argmin()  # two patterns compete for it
twice = np.vstack([toy[between], [toy[between, 0], np.nan]])  # as it is, and with B missing
posterior = fit.apply(twice, 1.0)
for row, text in enumerate(["both seen", "B missing"]):
    mine = by_hand(twice[row], V, components, theirs)
    package = np.array([posterior[name][row] for name in ["mean", "sd", "lfsr"]])
    assert np.allclose(mine, package, rtol=0, atol=1e-10)  # algebra
    print(f"{text}: estimates {twice[row].round(2)}")
    print(pd.DataFrame(mine, ["mean", "sd", "lfsr"], ["A", "B"]).round(3).to_string())

# %% [markdown]
# ## Many conditions
#
# Now eight conditions with standard errors of their own. A fifth of 3,000 effects is not null: half of these everywhere
# and alike, three in ten in the brain alone, the rest in blood alone.

# %%
conditions = ["brain_1", "brain_2", "brain_3", "muscle", "heart", "skin", "liver", "blood"]
R = len(conditions)
brain, blood = np.array([name.startswith("brain") for name in conditions]), np.arange(R) == 7
alike = 0.9 * np.ones((R, R)) + 0.1 * np.eye(R)
truth = {"everywhere": alike, "brain": alike * np.outer(brain, brain), "blood": np.diag(1.0 * blood)}
se = np.array([0.11, 0.08, 0.09, 0.06, 0.13, 0.15, 0.18, 0.16])


def simulate(rng, J, C=None):
    pattern = rng.choice(["null", *truth], size=J, p=[0.8, 0.1, 0.06, 0.04])
    b = np.zeros((J, R))
    for name, U_k in truth.items():
        of = pattern == name
        omega = rng.choice([0.2, 0.4], size=(of.sum(), 1))
        b[of] = omega * rng.multivariate_normal(np.zeros(R), U_k, size=of.sum(), method="eigh") * (np.diag(U_k) > 0)
    errors = se * rng.multivariate_normal(np.zeros(R), np.eye(R) if C is None else C, size=J)
    named = {"effect": [f"effect {j + 1}" for j in range(J)], "condition": conditions}
    return [xr.DataArray(table, named, ("effect", "condition")) for table in (b, b + errors, np.tile(se, (J, 1)))]


# %% [markdown]
# `mash.fit` brings its own covariances: the *canonical* ones (independent effects, one condition alone, equal effects,
# three in between) and one learned from strong effects. The competitor is each condition by itself, known as ash.

# %%
rng = np.random.default_rng(2)
b, bhat, shat = simulate(rng, 3000)
fit = mash.fit(bhat, shat)
alone = [mash.fit(bhat[:, [r]], shat[:, [r]]) for r in range(R)]
single = xr.concat([one.mean for one in alone], "condition").transpose("effect", "condition")


def rmse(estimate):
    return float(np.sqrt(((estimate - b) ** 2).mean() / ((bhat - b) ** 2).mean()))


print(f"error over that of the estimates: each condition alone {rmse(single):.2f}, mash {rmse(fit.mean):.2f}")
called = [int(sum((one.lfsr < 0.05).sum() for one in alone)), int((fit.lfsr < 0.05).sum())]
print(f"called at lfsr < 0.05: each condition alone {called[0]}, mash {called[1]}")
print(f"weight of the point mass {fit.null_weight:.2f}; certificate below 1e-8 nats: {fit.gap < 1e-8}")
assert rmse(fit.mean) < 0.8 * rmse(single)  # about a third less in every data set tried
assert called[1] > 1.5 * called[0]
assert fit.gap < 1e-8

# %% [markdown]
# What was learned? Below, the patterns with the most weight: left, correlations of effects between conditions (or the
# covariance itself, if of rank one); right, first eigenvectors.

# %%
patched = float(fit.weights.sel(covariance=conditions[:3]).sum())
print(f"weight of single conditions of the brain: {patched:.3f}; in truth there are no such effects")
assert patched > 0.01
draw.covariance_patterns(fit, most=3, vectors=2, order="given")

# %% [markdown]
# `ed empirical` was learned: one covariance for all strong effects. They are mostly of the kind "everywhere", and so is
# it. Effects of the brain alone are patched together from single conditions of it, for nothing canonical says "all of
# the brain, and exactly zero elsewhere". Remember that for the next section.
#
# Next, one effect of the brain as estimated and as shrunk.

# %%
off = np.abs(np.abs(b[:, :3]) - 0.25).max("condition").where((b[:, 0] != 0) & (b[:, 3] == 0), 1)  # in the brain alone
example = str(b.effect.values[off.argmin("effect")])
figure, ax = plt.subplots(figsize=(6.4, 3.6))
draw.shrinkage(fit, example, units="effect (expression units per allele)", ax=ax)
figure.suptitle("The brain's estimates support each other, and mislead about the liver", fontsize=10)
plt.show()
one, lfsr_alone = fit.posterior.sel(effect=example), [float(of.lfsr.sel(effect=example)[0]) for of in alone[:3]]
print("lfsr in the brain: each condition alone", np.round(lfsr_alone, 3), "mash", one["lfsr"].values[:3].round(3))
assert (one["lfsr"].values[:3] < lfsr_alone).all()  # of this effect: others are luckier alone
assert (one["lfsr"].values[:3] < 0.05).all()
assert (np.array(lfsr_alone) > 0.1).sum() == 2
false = (one["lfsr"] < 0.05) & (b.sel(effect=example) == 0)
print("called, but in truth zero:", *one.condition.values[false.values])
assert false.any()

# %% [markdown]
# Alone two of the brain's conditions are far from significant. Together they are all called. So is the liver, where the
# effect is zero in truth: its estimate happens to agree, and the patterns offered take it along.
#
# What is shared? Left, of effects called in either of two conditions, the share with one sign and within a factor of
# two; right, in how many conditions an effect is.

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.8))
draw.sharing_heatmap(fit, order="given", ax=left)
counts = np.bincount(mash.number_shared(fit), minlength=R + 1)
right.bar(np.arange(1, R + 1), counts[1:], color="0.6", edgecolor="black")
right.set(xlabel="conditions that share the effect", ylabel="effects", title="Peaks: all eight, and the brain's three")
plt.show()
sharing = mash.pairwise_sharing(fit).values
within = sharing[np.ix_(brain, brain)][np.triu_indices(3, 1)].mean()
with_blood = sharing[7, :3].mean()
print(f"shared on average: within the brain {within:.2f}, brain and blood {with_blood:.2f}")
assert within > with_blood + 0.05  # effects of both kinds: everywhere, and in the brain or blood alone
assert counts.argmax() == R
assert counts[3] > max(counts[2], counts[4])

# %% [markdown]
# ## Does the lfsr keep its word?
#
# An lfsr of 0.03 says: the sign is wrong, or the effect zero, with probability 0.03. The average lfsr of what is called
# is thus the share of wrong calls that mash *claims*. With the truth at hand we can count, in 20,000 fresh effects.
# (The standard error takes effects to be independent, and the conditions of one effect not to be.)


# %%
def calls(posterior, b, level=0.05):
    call = (posterior["lfsr"] < level).values
    return call, call & (np.sign(posterior["mean"].values) != np.sign(b.values))


def wrong(posterior, b):
    call, bad = calls(posterior, b)
    share = bad.sum() / call.sum()
    error = np.sqrt(((bad.sum(axis=1) - share * call.sum(axis=1)) ** 2).sum()) / call.sum()
    return {"called": call.sum(), "wrong": share, "SE": error, "claimed": posterior["lfsr"].values[call].mean()}


b_new, bhat_new, shat_new = simulate(rng, 20_000)
given = [*mash.canonical(conditions), mash.Covariance.from_matrix("brain", truth["brain"])]
families = {
    "canonical": "canonical",
    "default": None,
    "mashr's recipe": ["canonical", "data-driven"],
    "brain given": given,
}
fits = {name: mash.fit(bhat, shat, covariances=family) for name, family in families.items()}
rows = {name: wrong(one.apply(bhat_new, shat_new), b_new) for name, one in fits.items()}
for name, one in fits.items():
    rows[name] |= {"error": rmse(one.mean), "held-out loglik": one.score(bhat_new, shat_new)}
table = pd.DataFrame(rows).T
held = (table["held-out loglik"] - table["held-out loglik"]["canonical"]).round()
print(table.assign(**{"held-out loglik": held}).round(4).to_string())
assert table["wrong"]["default"] - table["claimed"]["default"] > 3 * table["SE"]["default"]  # more than is claimed
assert table["wrong"]["brain given"] < table["claimed"]["brain given"] + 2 * table["SE"]["brain given"]  # no more
assert (table["wrong"] < 0.05).all()
of_brain = ((b_new[:, 0] != 0) & (b_new[:, 3] == 0)).values
_, bad = calls(fits["default"].apply(bhat_new, shat_new), b_new)
there = bad[of_brain][:, ~brain].sum() / bad.sum()
print(f"of the default's wrong calls, effects of the brain called elsewhere: {there:.2f}")
assert there > 0.5
best = ["brain given", "mashr's recipe"]
assert list(table.sort_values("error").index[:2]) == list(table.sort_values("held-out loglik").index[::-1][:2]) == best

# %% [markdown]
# All stay below 5 %, but with the first three families far more is wrong than is claimed: effects of the brain are
# given its sign in other conditions too, as none of their covariances has exact zeros there. Given that covariance, the
# lfsr keeps its word. **An lfsr is conditional on the family of patterns**, as any probability is on its model. The
# held-out log-likelihood (nats, less that of the canonical family) picks the same two families as the errors do, and
# needs no truth: use it.
#
# ## Errors that correlate
#
# Estimates in different conditions often come from the same people, and a shared error looks like a shared effect.
# `V="estimate"` learns $C$ from effects that look null, and corrects for their having been chosen as small.

# %%
C = 0.5 + 0.5 * np.eye(R)
b_c, bhat_c, shat_c = simulate(rng, 3000, C)
tried = {"identity": None, "estimate": "estimate", "the true C": C}
fits = {name: mash.fit(bhat_c, shat_c, V=V_, covariances=given) for name, V_ in tried.items()}
table = pd.DataFrame({name: wrong(one.posterior, b_c) for name, one in fits.items()}).T
print(table.round(4).to_string())
print("the first fit says:", fits["identity"].status.split("; ")[1])
assert table["wrong"]["identity"] > 0.5  # most of what is called
assert abs(table["wrong"]["estimate"] - table["wrong"]["the true C"]) < 3 * table["SE"]["the true C"]
learned = mash.null_correlation(bhat_c, shat_c, method="truncated").values[np.triu_indices(R, 1)]
print(f"correlations learned: {learned.mean():.2f} on average, for 0.50")
assert abs(learned.mean() - 0.5) < 0.05

# %% [markdown]
# With the identity most calls are wrong, and claim to be right. Estimated, $C$ is as good as known.
#
# ## Patterns of low rank make signs too sure
#
# Take a pattern of rank one, $U = uu'$ with $u = (1, 0.01)$: an effect in A comes with one of the same sign in B, a
# hundredth as large. Whoever is sure of the sign in A is *equally* sure of it in B, whatever was estimated there.

# %%
u = np.array([1.0, 0.01])
sure = by_hand(np.array([5.0, -1.0]), np.eye(2), [9 * np.outer(u, u)], [1.0])
print("estimates 5 and -1:")
print(pd.DataFrame(sure, ["mean", "sd", "lfsr"], ["A", "B"]).map("{:.2g}".format).to_string())
assert np.isclose(sure[2, 0], sure[2, 1], rtol=1e-6)  # algebra: b_B = 0.01 b_A

# %% [markdown]
# mashr's recipe learns such patterns (principal components of strong effects). They describe shared effects well: in
# the first table the recipe beats the default. Where nothing is shared they do harm. Four data sets in which every
# effect is in one of 20 conditions alone:

# %%
rows = {name: [] for name in list(families)[:3]}
for seed in range(4):
    rng = np.random.default_rng(seed)
    size = rng.choice([1, 2, 4], size=3000) * rng.standard_normal(3000) * (rng.random(3000) < 0.05)
    b_one = xr.DataArray(size[:, None] * np.eye(20)[rng.integers(20, size=3000)], dims=("effect", "condition"))
    bhat_one = b_one + rng.standard_normal(b_one.shape)
    for name in rows:
        rows[name].append((mash.fit(bhat_one, 1.0, covariances=families[name]).posterior, b_one))
every = {name: [xr.concat(part, "effect") for part in zip(*of, strict=True)] for name, of in rows.items()}
table = pd.DataFrame({name: wrong(*both) for name, both in every.items()}).T
print(table.round(3).to_string())
recipe = table.loc["mashr's recipe"]
assert recipe["wrong"] - recipe["claimed"] > 3 * recipe["SE"]
assert recipe["wrong"] > 0.3
canonical = table.loc["canonical"]
assert canonical["wrong"] < canonical["claimed"] + 3 * canonical["SE"]

# %% [markdown]
# Most calls of the recipe are wrong here, and it claims that nearly all are right. The default, whose learned
# covariance is of full rank, does far better, but is not safe either:
# [the study](../simulations/README.md#against-least-squares-and-ash) finds more wrong than claimed at 44 conditions.
# The canonical family, which holds the truth, is as good as its word, as far as so few calls can tell.
#
# ## Where the two roads meet
#
# Take one SNP, no inactive tissue ($\tau_1 = 1$), and $\beta \sim N(0, \kappa)$. Then Xue & Li's equation (3),
# $\beta(t) \mid \beta \sim N(\beta, \eta/x'x)$, makes the effects $N(0, \kappa 11' + (\eta/x'x) I)$ over tissues: one
# covariance of mash. All that either looks at is $\hat\beta(t)$ with standard error $\sigma/\sqrt{x'x}$. They must
# agree.

# %%
rng = np.random.default_rng(3)
n, m, kappa, eta, sigma2 = 50, 6, 0.3, 4.0, 1.0
x = rng.standard_normal((n, 1))
xx = (x**2).sum()
effects = np.sqrt(kappa) * rng.standard_normal() + np.sqrt(eta / xx) * rng.standard_normal(m)
Y = x * effects + np.sqrt(sigma2) * rng.standard_normal((n, m))
ols = (x.T @ Y / xx)[0]  # equation (2)
beta = kappa * ols.sum() / (m * kappa + (eta + sigma2) / xx)  # E(beta | Y)
regression = ebmodel.oracle(x, Y, ebmodel.Params(tau1=1.0, beta=[beta], eta=eta, sigma2=sigma2)).effects.values[:, 0]
U_one = kappa * np.ones((m, m)) + eta / xx * np.eye(m)
omega = np.sqrt(U_one.max())  # mash scales covariances to a largest variance of 1
one = mash.fit(ols[None, :], np.sqrt(sigma2 / xx), covariances={"both": U_one}, grid=[omega], pointmass=False)
print("regression", regression.round(4))
print("mash      ", one.mean.values[0].round(4))
assert np.allclose(regression, one.mean.values[0], rtol=0, atol=1e-10)  # algebra: (5) is linear in beta

# %% [markdown]
# ## Where they part
#
# With several SNPs and inactive tissues they differ. The regression knows that a gene's SNPs act together and how they
# correlate; it learns from one gene. mash takes SNPs one at a time, but learns from all genes how rare effects are and
# how errors correlate. So give both the same genes: 40 to be judged, 20 of them with effects in about half of 20
# tissues, drawn from the regression's model, and 150 more without effects for mash to learn from. In a second world the
# errors of a donor's tissues correlate by 0.3, which the regression denies and mash learns.

# %%
G, judged, n, p, m = 190, 40, 100, 5, 20


def world(rng, rho):
    X = rng.standard_normal((G, n, p)) @ np.linalg.cholesky(0.5 + 0.5 * np.eye(p)).T
    active = (rng.random((G, m)) < 0.5) & (np.arange(G)[:, None] < 20)
    root = np.linalg.cholesky(np.linalg.inv(X.transpose(0, 2, 1) @ X))
    mean, own = 0.1 * rng.standard_normal((G, 1, p)), rng.standard_normal((G, m, p))
    effects = (mean + own @ root.transpose(0, 2, 1)) * active[:, :, None]  # (3) and (4), with eta = sigma2 = 1
    errors = np.sqrt(rho) * rng.standard_normal((G, n, 1)) + np.sqrt(1 - rho) * rng.standard_normal((G, n, m))
    return X, X @ effects.transpose(0, 2, 1) + errors, effects, active


def marginal(X, Y):  # one SNP at a time: estimates and standard errors, (gene, snp, tissue)
    xx = (X**2).sum(axis=1)[:, :, None]
    bhat = X.transpose(0, 2, 1) @ Y / xx
    return bhat, np.sqrt(((Y**2).sum(axis=1)[:, None] / xx - bhat**2) / (n - 1))


# %% [markdown]
# mash's marginal effects $\hat m$ become joint ones by $\hat\beta = (X'X)^{-1} D \hat m$, $D$ the diagonal of $X'X$.
# Errors are those of the signal $X\beta(t)$, where both are at home. For "tissue $t$ is active" the regression has
# $P(I(t)=1 \mid Y)$; for mash one minus the least lfsr of the gene's SNPs stands in. *Generalised* is the regression
# with a learned slab (`slab="power", mean="hierarchical"`).


# %%
def analyse(X, Y, effects):
    bhat, shat = marginal(X, Y)
    fit = mash.fit(bhat.reshape(-1, m), shat.reshape(-1, m), V="estimate")
    mean, lfsr = (table.values.reshape(G, p, m)[:judged] for table in (fit.mean, fit.lfsr))
    paper = [ebmodel.fit(X[g], Y[g]) for g in range(judged)]
    general = [ebmodel.fit(X[g], Y[g], slab="power", mean="hierarchical") for g in range(judged)]
    joint = {"least squares": [one.ols.values for one in paper]}
    score, A = {}, X.transpose(0, 2, 1) @ X
    for name, of in [("the paper's", paper), ("generalised", general)]:
        joint[name] = [one.effects.values for one in of]
        score[name] = np.array([one.posterior_probability.values for one in of])
    joint["mash"] = [np.linalg.solve(A[g], np.diag(A[g])[:, None] * mean[g]).T for g in range(judged)]
    score["mash"] = 1 - lfsr.min(axis=1)
    off = {name: np.array(estimates) - effects[:judged] for name, estimates in joint.items()}
    return {k: np.mean((X[:judged] @ e.transpose(0, 2, 1)) ** 2, axis=(1, 2)) for k, e in off.items()}, score


correlation = {"the model is true": 0.0, "errors correlate": 0.3}
worlds = {name: world(np.random.default_rng(5), rho) for name, rho in correlation.items()}  # the same genes twice
results = {name: analyse(*data[:3]) for name, data in worlds.items()}

# %% [markdown]
# Standard errors are by the jackknife over genes: leave out one at a time.


# %%
def jackknife(statistic, *tables):
    """A statistic of tables with a row for each gene, and its standard error."""
    each = [statistic(*(np.delete(table, g, axis=0) for table in tables)) for g in range(judged)]
    return statistic(*tables), np.sqrt((judged - 1) * np.var(each))


def ratio(a, b):
    return a.mean() / b.mean()


def auc_over_all(score, active):
    return auc(score.ravel(), active.ravel())


def auc_gained(a, b, active):
    return auc_over_all(a, active) - auc_over_all(b, active)


rows = {}
for name, (mse, score) in results.items():
    active = worlds[name][3][:judged]
    for method in mse:
        rows[name, method] = {"MSE of Xβ": jackknife(ratio, mse[method], mse["least squares"])}
    for method in score:
        within = [auc(score[method][g], active[g]) for g in range(20)]  # a gene without active tissues has none
        rows[name, method]["AUC, all genes"] = jackknife(auc_over_all, score[method], active)
        rows[name, method]["AUC within genes"] = np.mean(within), np.std(within) / np.sqrt(19)
table = pd.DataFrame(rows).T
print(table.map(lambda cell: "{:.3f} ± {:.3f}".format(*cell) if isinstance(cell, tuple) else "").to_string())
for name, sign in [("the model is true", 1), ("errors correlate", -1)]:
    mse = results[name][0]
    value, error = jackknife(ratio, mse["mash"] - mse["generalised"], mse["least squares"])
    print(f"{name}: MSE of mash less that of the generalised regression {value:+.3f} ± {error:.3f}")
    assert sign * value > 2 * error  # neither wins in both
    score, active = results[name][1], worlds[name][3][:judged]
    gain, error = jackknife(auc_gained, score["mash"], score["the paper's"], active)
    print(f"{name}: AUC over all genes of mash less that of the paper's {gain:+.3f} ± {error:.3f}")
    assert gain > 2 * error

# %%
figure, panels = plt.subplots(1, 2, figsize=(8, 3.2), sharey=True)
methods = ["the paper's", "generalised", "mash"]
for ax, column in zip(panels, ["MSE of Xβ", "AUC, all genes"], strict=True):
    for k, (name, mark) in enumerate([("the model is true", "o"), ("errors correlate", "s")]):
        value, error = np.array([table[column][name][method] for method in methods]).T
        style = {"marker": mark, "linestyle": "none", "capsize": 3, "markerfacecolor": ["C0", "white"][k]}
        ax.errorbar(value, np.arange(3) + 0.24 * k - 0.12, xerr=error, color=f"C{k}", label=name, **style)
left, right = panels
left.set(xlabel="MSE of Xβ, over that of least squares", title="Left is better: who wins depends")
right.set(xlabel="AUC for active tissues, all genes", title="Right is better: mash wins")
left.set_yticks(range(3), methods)
left.set_ylim(2.5, -0.5)
right.axvline(0.5, color="0.4", linestyle=":", linewidth=1)
right.legend(loc="center right")
plt.show()

# %% [markdown]
# Bars are one standard error; the genes are the same in both worlds. Where its model holds, the regression with a
# learned slab estimates the signal best: it knows what belongs together. (The paper's own slab and mash are about
# equal.) Where errors correlate it takes shared errors for shared effects, and mash wins.
#
# Ranking tissues *over all genes*, mash wins in both worlds: it has learned that most effects are null. The regression
# finds $\tau_1$ from one gene alone, and of a gene without effects its probabilities mean nothing. *Within* genes that
# have effects they are closer, and 20 genes do not settle it;
# [the study](../simulations/README.md#the-two-methods-meet), of 480 genes in each of six worlds, finds that there the
# paper's regression ranks better where its model holds, mash where errors correlate or tissues act in groups.
#
# ## What to use
#
# | what you have | use | because |
# | --- | --- | --- |
# | summary statistics alone | `mash.fit` | the regression needs X and Y |
# | X and Y of one gene, or a few | `ebmodel.fit`, learned slab | mash has nothing to learn weights from |
# | many genes, effects wanted | the same, if [checks](07_checks.ipynb) pass | it joins a gene's SNPs and tissues |
# | many genes: which tissues act at all? | mash | one gene does not say how rare effects are |
# | tissues of the same donors | mash, `V="estimate"` | shared errors pass for effects |
# | the same, one gene | `ebmodel.sample(errors="correlated")` | the same; there is no null to learn $C$ from |
# | tissues that act in groups | mash, with the groups if known | to the regression tissues are exchangeable |
# | few samples in some tissues | `ebmodel.fit` ([notebook 5](05_missing.ipynb)) | it uses the samples there are |
# | missing estimates | `mash.fit` with NaN | they are integrated out |
# | few effects, so weights in doubt | `mash.sample`, `mash.compare` | the full Bayesian twin |
#
# (`mash.sample` gives the weights a Dirichlet prior; it is not run here, to keep the notebook quick.)
#
# ## What to take away
#
# - mash is a mixture with fixed components: its weights are a concave problem, and every fit has a certificate.
# - Its posterior is a mixture of normals: mean, sd and lfsr are sums over components; missing conditions are left out.
# - An lfsr is conditional on the patterns offered. Compare families by held-out log-likelihood, distrust signs that
#   come from covariances of low rank, and give the patterns that you have reasons for.
# - Correlated errors that are not modelled pass for effects, in either method. Estimate $C$, or check.
# - The two roads coincide in a special case and differ in what they can learn: one gene's structure, or all genes'.
#
# ## Exercises
#
# 1. Why null-biased? Add the scale 0.1 to the first example's grid and fit with and without the penalty. Without it
#    the point mass is left with nothing, for less than a nat. (Solved.)
# 2. mashr takes a missing estimate as 0 with a standard error of $10^6$. With correlated errors ($C_{AB} = 0.5$) show
#    that this takes A's error for smaller than it is, with 0.75 of its variance. (Solved.)
# 3. Prove that at a fixed point of EM every component with weight has $g_p = N$, so that only those without weight can
#    spoil the certificate, and check it on the first fit. (The M step is $\pi_p \leftarrow \pi_p g_p / N$.)
# 4. Give mash the whole truth, all three of `truth`'s covariances, in "Does the lfsr keep its word?". The error hardly
#    falls further. Why does giving the brain's pattern help the lfsr so much more than the error?
# 5. Where the two roads part, give mash joint least-squares estimates in place of marginal ones, with SNPs that
#    correlate by 0, 0.5 and 0.9. Joint ones are as good until the SNPs correlate strongly. Why worse then?
# 6. Let the errors' correlation go from 0 to 0.3. mash and the generalised regression tie between 0.1 and 0.25.
#
# ## Solutions
#
# **1.** Where standard errors are 1, estimates of effects of scale 0.1 look like those of none, and the likelihood
# hardly says how the two share the weight: without a penalty one takes all, in other data sets the other. Both lfdr and
# lfsr depend on it.

# %%
with_small = [mash.fit(toy, 1.0, covariances=U, grid=[0.1, 1.5, 3.0], null_weight=a + 1) for a in [0, 9]]
for a, one in zip([0, 9], with_small, strict=True):
    small = float(one.weights.sel(scale=0.1).sum())
    print(f"a = {a}: point mass {one.null_weight:.3f}, scale 0.1 {small:.3f}, log-likelihood {one.loglik:.2f} nats")
assert with_small[0].null_weight < 0.01
assert with_small[1].null_weight > 0.4
assert 0 < with_small[0].loglik - with_small[1].loglik < 1

# %% [markdown]
# **2.** With $V = SCS$ and a huge $s_B$, an estimate of 0 in B says that B's error is 0 *standard errors* (the effect
# is nothing beside $10^6$). Given that, A's error has $1 - C_{AB}^2$ of its variance.

# %%
fit = mash.fit(bhat_c[:, :2], shat_c[:, :2], V=C[:2, :2])
largest, s = float(np.abs(bhat_c[:, 0]).max()), se[0]
as_mashr = fit.apply(np.array([[largest, 0.0]]), np.array([[s, 1e6]]))
left_out = fit.apply(np.array([[largest, np.nan]]), np.array([[s, s]]))
smaller = fit.apply(np.array([[largest, np.nan]]), np.array([[np.sqrt(0.75) * s, s]]))
for name, one in {"left out": left_out, "0 ± 10^6": as_mashr, "0.75 of the variance": smaller}.items():
    print(f"{name:20}: mean {one['mean'].values[0, 0]:.4f}, sd {one['sd'].values[0, 0]:.4f}")
assert np.allclose(as_mashr["mean"][0, 0], smaller["mean"][0, 0], rtol=1e-5)  # effects are 1e-6 of 10^6
assert np.allclose(as_mashr["sd"][0, 0], smaller["sd"][0, 0], rtol=1e-5)
assert as_mashr["sd"][0, 0] < 0.9 * left_out["sd"][0, 0]
