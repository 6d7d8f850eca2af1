"""Prediction on real data, cross-validated: R² of every estimator, trait by trait.

    python -m simulations predict --genotypes X.csv --expression Y.csv --name NAME

There is no truth to compare effects with, so an estimator is judged by responses that it has not seen. All that is
learnt is learnt on the samples of the training folds: with C the covariates and a column of ones,

    A = argmin |X - C A|,   a_t = argmin |y_t - C a_t|     least squares, the latter over the observed rows of trait t
    S, s_t                                                 sds of what these leave: all SNPs and traits have sd one
    beta(t)                                                an estimator's effects of (X - C A)/S on (y_t - C a_t)/s_t
    y_t predicted = C a_t + s_t (X - C A)/S beta(t)        for the samples held out
    R²_t = 1 - PMSE(t) / PMSE(t) with beta(t) = 0          PMSE over all held-out observed responses, of all folds

so that R² is zero for covariates alone, and below it for an estimator that does harm. The folds are the same for all
traits and estimators. Standard errors are over splits into folds, drawn anew in each repeat. All repeats share the one
data set, so they tell how far the chance of splitting may have changed an order, not what another sample would give.
"""

from __future__ import annotations

import argparse
import sys
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ebmodel.data import NEGLIGIBLE, Data, tidy
from ebmodel.errors import InputError, expect, listed
from ebmodel.files import read_table, write_figure
from ebmodel.labels import SAMPLE, SNP, TISSUE
from ebmodel.model import Array
from ebmodel.plot.style import BLACK, LINE, REFERENCE, new_figure, styled
from ebmodel.screen import choose
from simulations.estimators import ESTIMATORS
from simulations.store import SECONDS, Cell, Record, Store
from simulations.study import RESULTS, Study, child
from simulations.tables import Table

__all__ = ["CrossValidation", "finding", "main", "read_data", "scores", "studies", "verdicts"]

WORDS = {
    "zero": "zero", "ols": "OLS", "ridge": "ridge", "lasso": "lasso", "elastic_net": "elastic net",
    "multitask": "multi-task", "eb": "EB (paper)", "eb_hierarchical": "EB, hierarchical",
    "eb_power": "EB, power", "eb_power_zero": "EB, power, no mean", "eb_general": "EB, power, hierarchical",
    "eb_sparse": "EB, sparse, hierarchical", "eb_selected": "EB, selected",
}  # fmt: skip
"""Estimators that know no truth, in the order of tables."""
OURS = "eb_selected"
ALSO = ("eb_general", "eb_power_zero")
"""Whose standing is told beside it."""
RIVALS = ("zero", "ols", "ridge", "lasso", "elastic_net", "multitask", "eb")
"""What `OURS` must beat: what others do, and the paper's estimator."""
DEFAULT = tuple(name for name in WORDS if name in ESTIMATORS)
MOST = 0.9
"""SNPs at most, as a share of the training samples less covariates. Estimators count n samples though k covariates
leave n - k: where the SNPs explain all of those, leave-one-out errors vanish and the likelihood has no maximum."""
LEAST = 2
"""Repeats, for a standard error."""
SETS = ("spread:100", "screen:50")
R2 = "R² "
"""Before a trait's name: the name of its metric."""


# Which SNPs ----------------------------------------------------------------------------------------------------------


def spread(P: int, p: int) -> NDArray[np.int64]:
    """Positions of p of P SNPs, evenly spaced in the file's order; all of them if there are fewer."""
    return np.unique(np.linspace(0, P - 1, min(p, P)).round().astype(np.int64))


def size(snps: str, P: int) -> int:
    """How many of P SNPs ``spread:N``, ``screen:N`` or ``all`` asks for.

    Raises
    ------
    InputError
        If it is none of these.
    """
    kind, _, number = snps.partition(":")
    known = snps == "all" or (kind in ("spread", "screen") and number.isdigit() and int(number) > 0)
    expect(known, "spread:N, screen:N or all", repr(snps), "--snps", "choose one")
    return P if snps == "all" else min(int(number), P)


# One fold ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Fold:
    """Training data as estimators take them, and what is to be predicted in the same units."""

    training: xr.Dataset
    """``X`` (sample, snp) and ``Y`` (sample, tissue), covariates removed, of sd one."""
    X: Array
    """(held-out sample, snp)."""
    Y: Array
    """(held-out sample, tissue), NaN where missing."""
    s: Array
    """(tissue,) sds of the training responses: squared errors times s² are in the units of the data."""

    def errors(self, effects: Array) -> Array:
        """Squared errors of prediction, summed over held-out responses, (tissue,)."""
        missing = np.isnan(self.Y)
        return self.s**2 * np.sum(np.where(missing, 0.0, self.Y - self.X @ effects.T) ** 2, axis=0)


def fold(data: Data, train: NDArray[np.bool_], snps: str) -> Fold:
    """Remove covariates, scale, and choose SNPs, by the training samples alone.

    Raises
    ------
    InputError
        If a trait has too few training samples, or does not vary in them.
    """
    where = data.where[1]
    A, S = regress(data.C[train], data.X[train])
    varies = np.flatnonzero(S > NEGLIGIBLE * np.abs(data.X[train]).max(axis=0))
    a, s = regress(data.C[train], data.Y[train])
    flat = data.tissues[~(s > NEGLIGIBLE * np.nanmax(np.abs(data.Y), axis=0))]
    do = "leave the trait out, or use fewer folds"
    expect(len(flat) == 0, "traits that vary in every training fold", f"none in {listed(flat)}", where, do)
    X, Y = ((data.X - data.C @ A)[:, varies] / S[varies], (data.Y - data.C @ a) / s)
    p = size(snps, len(data.snps))
    if snps.startswith("screen"):
        chosen = choose(data.X[np.ix_(train, varies)], data.Y[train], p, covariates=data.C[train], intercept=False)
        at = chosen["position"].to_numpy()
    else:
        at = np.flatnonzero(np.isin(varies, spread(len(data.snps), p)))
    coords = {SNP: data.snps[varies[at]], TISSUE: data.tissues, SAMPLE: data.samples[train]}
    variables = {"X": ((SAMPLE, SNP), X[np.ix_(train, at)]), "Y": ((SAMPLE, TISSUE), Y[train])}
    return Fold(xr.Dataset(variables, coords), X[np.ix_(~train, at)], Y[~train], s)


def regress(C: Array, Y: Array) -> tuple[Array, Array]:
    """Least squares of the columns of Y on C over their observed rows, (covariate, column), and sds of the residuals.

    The sd is NaN in a column with no more rows than covariates.
    """
    coefficients, sd = np.zeros((C.shape[1], Y.shape[1])), np.full(Y.shape[1], np.nan)
    masks, pattern = np.unique(~np.isnan(Y.T), axis=0, return_inverse=True)
    for k, rows in enumerate(masks):
        columns, C_k = pattern == k, C[rows]
        y = Y[np.ix_(rows, columns)]
        coefficients[:, columns], _, rank, _ = np.linalg.lstsq(C_k, y)
        if len(y) > rank:
            sd[columns] = np.sqrt(np.sum((y - C_k @ coefficients[:, columns]) ** 2, axis=0) / (len(y) - rank))
    return coefficients, sd


def split(n: int, folds: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which fold each of n samples is held out in, (sample,): sizes differ by one at most."""
    return rng.permutation(np.arange(n) % folds)


# All folds -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """One repeat of a study of prediction: all folds of one split, every estimator a part of its own.

    Parameters
    ----------
    data
        All samples.
    estimators
        Names, of `ESTIMATORS`.
    """

    data: Data
    estimators: Sequence[str]

    @property
    def parts(self) -> Sequence[str]:
        """The estimators' names."""
        return list(self.estimators)

    def wants(self, part: str, cell: Cell, replication: int) -> bool:  # noqa: ARG002
        """Everywhere."""
        return True

    def __call__(self, cell: Cell, stream: np.random.SeedSequence, parts: Sequence[str]) -> dict[str, Record]:
        """R² by trait, the mean number of SNPs, the estimator's facts (means over folds), and seconds of all folds."""
        folds = list(self._folds(cell, stream))
        p = float(np.mean([part.X.shape[1] for part in folds]))
        nothing = sum(part.errors(np.zeros(part.training["X"].shape[1])[None]) for part in folds)
        found = {}
        for name in parts:
            errors, facts = np.zeros(len(self.data.tissues)), []
            start = time.perf_counter()
            for k, part in enumerate(folds):
                estimate = ESTIMATORS[name](part.training, child(stream, f"{name} {k}"))
                errors += part.errors(estimate.effects)
                facts.append(estimate.facts)
            seconds = time.perf_counter() - start
            r2 = 1 - errors / nothing  # R²_t = 1 - PMSE(t) / PMSE(t) with beta(t) = 0
            record = {f"{R2}{trait}": float(value) for trait, value in zip(self.data.tissues, r2, strict=True)}
            found[name] = {**record, "p": p, **pd.DataFrame(facts).astype(float).mean().to_dict(), SECONDS: seconds}
        return found

    def _folds(self, cell: Cell, stream: np.random.SeedSequence) -> Iterator[Fold]:
        folds = int(cell["folds"])
        held_out = split(len(self.data.samples), folds, np.random.default_rng(child(stream, "folds")))
        for k in range(folds):
            yield fold(self.data, held_out != k, str(cell["snps"]))


def studies(
    data: Data,
    name: str,
    snps: Iterable[str] = SETS,
    estimators: Sequence[str] = DEFAULT,
    folds: int = 5,
    repeats: int = 5,
    seed: int = 0,
    folder: Path = RESULTS,
) -> list[Study]:
    """One study for each way of choosing SNPs, stored as ``folder/prediction/NAME-SNPS.zarr``.

    A store holds the results of one data set, known by the checksum of its numbers, and of one number of folds.

    Raises
    ------
    InputError
        If an estimator is unknown or needs the truth, ``snps`` is no way of choosing them or gives too many for the
        training samples, ``folds`` is not between 2 and the number of samples, or ``repeats`` are fewer than 2.
    """
    unknown = [estimator for estimator in estimators if estimator not in DEFAULT]
    expect(not unknown, f"some of {', '.join(DEFAULT)}", listed(unknown), "--estimators", "choose among them")
    n = len(data.samples)
    expect(2 <= folds <= n, f"2 to {n} folds", folds, "--folds", "use 5")
    expect(repeats >= LEAST, f"at least {LEAST}, for a standard error", repeats, "--repeats", "use 5 or more")
    checksum = zlib.crc32(b"".join(np.ascontiguousarray(part).tobytes() for part in (data.X, data.Y, data.C)))
    found = []
    most = int(MOST * (n - -(-n // folds) - data.C.shape[1]))
    for which in snps:
        p = size(which, len(data.snps))
        expect(
            p <= most,
            f"at most {most} SNPs, {MOST:.0%} of the training samples less covariates",
            p,
            "--snps",
            f"spread:{most}",
        )
        cell: Cell = {"data": name, "snps": which, "folds": folds, "seed": seed, "checksum": f"{checksum:08x}"}
        title = f"{name}-{which.replace(':', '-')}"
        replicate = CrossValidation(data, estimators)
        found.append(Study(title, [cell], repeats, replicate, folder=folder / "prediction"))
    return found


def read_data(genotypes: Path, expression: Path, covariates: Path | None = None, columns: Sequence[str] = ()) -> Data:
    """Read and align tables of samples; an intercept joins the covariates.

    Samples without genotypes, and those without a value of a covariate, are left out. Covariates that are columns of
    the expression table too are no traits.

    Raises
    ------
    InputError
        If the data cannot be used (`ebmodel.data.tidy`), a column is not there, or no sample or trait is left.
    """
    X, Y, C = read_table(genotypes), read_table(expression), None
    if covariates is not None:
        C = read_table(covariates)
        lacking = [name for name in columns if name not in C.columns]
        expect(not lacking, f"columns among {listed(C.columns)}", listed(lacking), str(covariates), "check --columns")
        C = C[list(columns)] if columns else C
        traits = [name for name in Y.columns if name not in C.columns]
        expect(bool(traits), "traits beside the covariates", "none", str(expression), "give --columns")
        C, Y = C.dropna(), Y[traits]
        Y = Y.loc[Y.index.isin(C.index)]
    Y = Y.loc[Y.index.isin(X.index)]
    do = "check that all tables use the same names"
    expect(len(Y) > 0, "samples with genotypes and covariates", "none", str(expression), do)
    Y.attrs["source"] = str(expression)
    return tidy(X, Y, C, intercept=True)


# What came out -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Score:
    """Stored results of one data set and one way of choosing SNPs."""

    data: str
    snps: str
    r2: xr.DataArray
    """(estimator, repeat, trait), estimators in the order of `WORDS`; NaN where one was not run or has no estimate."""
    p: float
    """Mean number of SNPs."""
    folds: int
    seconds: Mapping[str, float]
    """Of one training fold, by estimator."""

    @property
    def name(self) -> str:
        """In words, for tables."""
        return f"{self.data}, {in_words(self.snps)}"

    @property
    def average(self) -> xr.DataArray:
        """R² averaged over traits, (estimator, repeat); NaN if a trait has none."""
        return self.r2.mean("trait", skipna=False)


def in_words(snps: str) -> str:
    """A way of choosing SNPs."""
    kind, _, number = snps.partition(":")
    return {"spread": f"{number} spread evenly", "screen": f"{number} screened", "all": "all SNPs"}[kind]


def scores(folder: Path, names: Sequence[str] = ()) -> list[Score]:
    """Stored results, of the data sets named or of all; those with the most SNPs last.

    Raises
    ------
    InputError
        If there are none.
    """
    found = []
    for path in sorted((folder / "prediction").glob("*.zarr")):
        store = Store(path)
        cell = store.attrs["cells"][0]
        if store.parts and (not names or cell["data"] in names):
            found.append(_score(store.read().isel(cell=0, drop=True), cell))
    wanted = f"results of {listed(names)}" if names else "results of prediction"
    do = "give --genotypes and --expression"
    expect(bool(found), wanted, "none stored", str(folder), do)
    return sorted(found, key=lambda score: (score.data, score.p))


def _score(results: xr.Dataset, cell: Cell) -> Score:
    begun = results["part"][np.isfinite(results[SECONDS]).sum("replication") >= LEAST].to_numpy()
    order = [name for name in WORDS if name in begun]
    results = results.sel(part=order).rename(part="estimator", replication="repeat")
    metrics = [str(name) for name in results if str(name).startswith(R2)]
    r2 = results[metrics].to_dataarray("trait").assign_coords(trait=[name.removeprefix(R2) for name in metrics])
    done = np.isfinite(results[SECONDS]).all("estimator")  # repeats that every estimator has been through
    folds, p = int(cell["folds"]), float(results["p"].mean())
    seconds = results[SECONDS].mean("repeat") / folds
    return Score(
        str(cell["data"]), str(cell["snps"]), r2.transpose("estimator", "repeat", "trait").sel(repeat=done), p, folds,
        {name: float(seconds.sel(estimator=name)) for name in order},
    )  # fmt: skip


def with_error(values: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Mean over repeats, and its standard error (see the module: that of the splits)."""
    mean = values.mean("repeat", skipna=False)
    return mean, values.std("repeat", ddof=1, skipna=False) / np.sqrt(values.sizes["repeat"])


def verdicts(score: Score, ours: str = OURS) -> pd.DataFrame:
    """Ours against the best rival, for every trait and on average: ``rival``, ``difference``, ``se`` and ``verdict``.

    Both have the same folds, so the standard error is that of the paired difference. The verdict is "best" where ours
    is not below the best rival, "within" where it is by one standard error at most, else "not".
    """
    rivals = [name for name in RIVALS if name in score.seconds]
    every = xr.concat([score.average.expand_dims(trait=["average"]), score.r2], "trait")
    rows = {}
    for trait in every["trait"].to_numpy():
        values = every.sel(trait=trait)
        mean, _ = with_error(values)
        rival = max(rivals, key=lambda name: np.nan_to_num(float(mean.sel(estimator=name)), nan=-np.inf))
        difference, se = map(float, with_error(values.sel(estimator=ours) - values.sel(estimator=rival)))
        verdict = "best" if difference >= 0 else "within" if difference >= -se else "not"
        rows[str(trait)] = {"rival": rival, "difference": difference, "se": se, "verdict": verdict}
    return pd.DataFrame.from_dict(rows, orient="index")


def finding(found: Sequence[Score], ours: str = OURS) -> str:
    """In which data sets and traits ours is best, within one standard error of the best rival, or neither."""
    lines = []
    for score in found:
        if ours not in score.seconds:
            lines.append(f"- {score.name}: {WORDS[ours]} has not been run.")
            continue
        judged = verdicts(score, ours)
        average, traits = judged.loc["average"], judged.drop("average")
        count = traits["verdict"].value_counts()
        told = {"best": "is the best", "within": "is within one standard error of the best", "not": "is not the best"}
        lines.append(
            f"- {score.name}: on average over traits {WORDS[ours]} {told[average['verdict']]} (R² "
            f"{signed(average['difference'])} ± {average['se']:.4f} against {WORDS[average['rival']]}). Of "
            f"{len(traits)} traits it is the best in {count.get('best', 0)}, within one standard error of the best in "
            f"{count.get('within', 0)}, and neither in {count.get('not', 0)}{_losses(traits)}."
        )
    return "\n".join(lines)


def _losses(traits: pd.DataFrame) -> str:
    lost = traits[traits["verdict"] == "not"]
    each = [f"{trait} {signed(row['difference'])} ({WORDS[row['rival']]})" for trait, row in lost.iterrows()]
    return f": {', '.join(each)}" if each else ""


def signed(value: float) -> str:
    """A difference, with its sign."""
    return f"{value:+.4f}".replace("-", "−")


def summary(found: Sequence[Score]) -> Table:
    """R² averaged over traits ± standard error: data sets and ways of choosing SNPs in rows, estimators in columns."""
    columns = [name for name in WORDS if any(name in score.seconds for score in found)]
    rows = [[score.name, *_cells(score.average, columns)] for score in found]
    repeats = min(score.r2.sizes["repeat"] for score in found)
    caption = (
        f"R² of prediction, averaged over traits, ± standard error over repeats of cross-validation ({repeats} at "
        "least; an error of the splits, for the repeats share their data). Bold: the best. –: no result."
    )
    return Table("prediction", caption, ["", *(WORDS[name] for name in columns)], rows)


def by_trait(score: Score) -> Table:
    """R² ± standard error of every trait, and on average."""
    columns = list(score.seconds)
    rows = [[str(trait), *_cells(score.r2.sel(trait=trait), columns)] for trait in score.r2["trait"].to_numpy()]
    rows.append(["average", *_cells(score.average, columns)])
    caption = (
        f"R² of prediction, {score.name}: mean ± standard error over {score.r2.sizes['repeat']} repeats of "
        f"{score.folds}-fold cross-validation ({score.p:.0f} SNPs). Bold: the best. –: not determined."
    )
    name = f"prediction_{score.data}_{score.snps.replace(':', '_')}"
    return Table(name, caption, ["", *(WORDS[name] for name in columns)], rows)


def seconds(found: Sequence[Score]) -> Table:
    """Seconds for one fit of all traits."""
    columns = [name for name in WORDS if any(name in score.seconds for score in found)]
    rows = [
        [score.name, *(format(score.seconds[name], ".2g") if name in score.seconds else "–" for name in columns)]
        for score in found
    ]
    caption = "Seconds for one training fold: all traits, the estimator's own cross-validation included."
    return Table("prediction_seconds", caption, ["", *(WORDS[name] for name in columns)], rows)


def _cells(values: xr.DataArray, columns: Sequence[str]) -> list[str]:
    """Mean ± standard error of each estimator, (estimator, repeat) given; the best, as rounded, in bold."""
    mean, error = with_error(values.reindex(estimator=list(columns)))
    shown = [format(value, ".3f").replace("-0.000", "0.000") for value in mean.to_numpy()]
    best = format(float(mean.max()), ".3f")
    cells = []
    for value, se in zip(shown, error.to_numpy(), strict=True):
        text = f"{value} ± {se:.3f}".replace("-", "−")
        cells.append("–" if value == "nan" else f"**{text}**" if value == best else text)
    return cells


LOWEST = -0.05
"""Where the figure's axis ends; what lies below is said in a number."""


@styled
def figure(found: Sequence[Score]) -> Figure:
    """R² of every estimator: traits as small dots, their average with its standard error, the best rival as a line.

    A row of panels for each data set.
    """
    sets = {name: [score for score in found if score.data == name] for name in dict.fromkeys(s.data for s in found)}
    columns = [name for name in WORDS if any(name in score.seconds for score in found)]
    wide, tall = max(map(len, sets.values())), len(sets)
    drawing = new_figure(3.4 * wide + 1.4, (0.24 * len(columns) + 0.9) * tall)
    panels = drawing.subplots(tall, wide, sharey=True, squeeze=False)
    for row, group in zip(panels, sets.values(), strict=True):
        for panel, score in zip(row, group, strict=False):
            _draw(panel, score, columns)
        for panel in row[len(group) :]:
            panel.set_visible(False)
    panels[0, 0].set_yticks(range(len(columns)), [WORDS[name] for name in columns])
    panels[0, 0].set_ylim(len(columns) - 0.5, -0.5)
    return drawing


def _draw(panel: Axes, score: Score, columns: Sequence[str]) -> None:
    mean, error = with_error(score.average)
    traits = score.r2.mean("repeat", skipna=False)
    best = float(mean.sel(estimator=[name for name in RIVALS if name in score.seconds]).max())
    panel.axvline(best, **REFERENCE)
    for name, y in ((name, columns.index(name)) for name in score.seconds):
        at, se = float(mean.sel(estimator=name)), float(error.sel(estimator=name))
        if at < LOWEST:
            panel.text(LOWEST, y, f"◂ {at:.2f}".replace("-", "−"), va="center", fontsize=8)
            continue
        dots = traits.sel(estimator=name).to_numpy()
        panel.plot(dots, np.full(len(dots), y), "o", color=LINE, markersize=2.5, zorder=1)
        panel.errorbar(at, y, xerr=se, fmt="D" if name == OURS else "o", color=BLACK, markersize=4.5, capsize=2.5)
    panel.set(title=score.name, xlabel="R²", xlim=(LOWEST - 0.01, float(traits.max()) + 0.02))


def text(found: Sequence[Score]) -> str:
    """The summary and the findings as Markdown."""
    return "\n\n".join([summary(found).markdown(), *(finding(found, ours) for ours in (OURS, *ALSO))])


def show(folder: Path, names: Sequence[str] = ()) -> str:
    """Write tables and figure beside the stored results, and give `text`.

    Raises
    ------
    InputError
        If nothing is stored.
    """
    found = scores(folder, names)
    for table in (summary(found), *(by_trait(score) for score in found), seconds(found)):
        table.write(folder / "tables")
    write_figure(folder / "prediction.png", figure(found))
    return text(found)


# The command ---------------------------------------------------------------------------------------------------------


def main(arguments: list[str] | None = None) -> int:
    """``python -m simulations predict``; 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        if options.genotypes is not None:
            _run(options)
        print(show(options.out))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _run(options: argparse.Namespace) -> None:
    given, do = options.expression is not None and options.name is not None, "give them"
    expect(given, "--expression and --name", "--genotypes alone", "the command line", do)
    data = read_data(options.genotypes, options.expression, options.covariates, options.columns)
    n, p = data.X.shape
    print(f"{options.name}: {n} samples, {p} SNPs, {len(data.tissues)} traits", file=sys.stderr)
    asked = options.estimators or DEFAULT
    how = (options.snps, asked, options.folds, options.repeats, options.seed, options.out)
    for study in studies(data, options.name, *how):
        study.folder.mkdir(parents=True, exist_ok=True)
        study.run(jobs=options.jobs)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m simulations predict",
        description="Cross-validated R² of every estimator on your data; without --genotypes what is stored is shown.",
    )
    parser.add_argument("--genotypes", type=Path, help="samples x SNPs, any format that ebmodel reads")
    parser.add_argument("--expression", type=Path, help="samples x traits, missing values left empty")
    parser.add_argument("--covariates", type=Path, help="samples x covariates; may be the expression file")
    parser.add_argument("--columns", nargs="+", default=(), help="which of its columns; all if not given")
    parser.add_argument("--name", help="of the data set, in tables and files")
    what = "spread:N (evenly spaced), screen:N (by Stouffer's Z on the training folds) or all"
    parser.add_argument("--snps", nargs="+", default=SETS, help=what)
    parser.add_argument("--estimators", nargs="+", help=f"some of {', '.join(DEFAULT)}; all if not given")
    parser.add_argument("--repeats", type=int, default=5, help="splits into folds")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=-1, help="worker processes; all cores if not given")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results; simulations/results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
