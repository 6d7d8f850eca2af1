"""The options that commands share, under what their help lists them, and the words that a shell completes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

DATA, MODEL, COMPUTATION, OUTPUT = "Data", "Model", "Computation", "Output"
FITTING = "Fitting (the first fit on a machine compiles for about 15 seconds) ..."

# Completion ----------------------------------------------------------------------------------------------------------

SLABS = {  # no apostrophes: zsh leaves them out
    "g": "as in the paper, (XᵀX)^-1",
    "independent": "the identity",
    "power": "a power of XᵀX, learned, with its interval",
    "sparse": "each SNP with a scale of its own",
}
MEANS = {"free": "a parameter, as in the paper", "hierarchical": "its scale is learned", "zero": "none"}
MEANS_OF_DRAWS = {name: MEANS[name] for name in ("free", "hierarchical")}
ERRORS = {"equal": "one variance for all tissues, as in the paper", "unequal": "a variance for every tissue"}
ERRORS_OF_DRAWS = ERRORS | {"correlated": "over the tissues of a sample"}
PRIORS = {"weak": "weakly informative"}
FORMS = {"marginal": "effects integrated out", "latent": "as printed, slow"}
VIOLATIONS = (
    "heavy-tails", "skewed-errors", "unequal-variances", "correlated-errors", "block-errors", "curvature", "two-slabs",
    "slab-covariance", "related-tissues", "sample-size", "small-effects", "missing-by-value",
)  # fmt: skip
CHECKS = (
    "linearity", "sample-size", "normal-errors", "equal-variances", "independent-errors", "exchangeable",
    "unrelated-groups", "slab-covariance", "exact-spike", "two-components", "missing-at-random", "enough-tissues",
)  # fmt: skip
KINDS_OF_V = {
    "identity": "none",
    "estimate": "from effects that look null",
    "em": "by alternating with the fit; slower, better",
    "simple": "of effects that look null, as they are",
    "truncated": "of effects that look null, corrected for the cut",
    "pairwise": "the same, two conditions at a time",
}
COVARIANCES = ("canonical", "data-driven", "full-rank")
TINY = {"refuse": "stop", "missing": "take the cell for missing"}
ESTIMATORS = ("paper", "generalised")
FORMATS = ("bed", "pgen", "vcf")


def words(known: Mapping[str, str] | tuple[str, ...]) -> Callable[[str], Any]:
    """Complete one of these words; help comes with those that have some."""

    def complete(incomplete: str) -> list[Any]:
        every = known.items() if isinstance(known, Mapping) else known
        return [one for one in every if (one if isinstance(one, str) else one[0]).startswith(incomplete)]

    return complete


def several(known: tuple[str, ...]) -> Callable[[str], Any]:
    """Complete a list that commas separate, with a word that it does not have yet."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        rest = [name for name in known if name not in before.split(",")]
        return [f"{before}{comma}{name}" for name in rest if name.startswith(last)]

    return complete


# Options -------------------------------------------------------------------------------------------------------------

_GENOTYPES = typer.Option(
    metavar="FILE",
    help="Samples x SNPs: csv, tsv (also .gz) or parquet, the first column naming samples; or PLINK .bed or .pgen, "
    "VCF or BCF.",
    rich_help_panel=DATA,
)
_EXPRESSION = typer.Option(
    metavar="FILE",
    help="Samples x tissues of one gene: csv, tsv (also .gz) or parquet; empty or NA where missing.",
    rich_help_panel=DATA,
)
Genotypes = Annotated[Path, _GENOTYPES]
Expression = Annotated[Path, _EXPRESSION]
GenotypesIfAny = Annotated[Path | None, _GENOTYPES]
ExpressionIfAny = Annotated[Path | None, _EXPRESSION]
Covariates = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Samples x covariates to project out; text columns become indicators. May be the expression file.",
        rich_help_panel=DATA,
    ),
]
CovariateColumns = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Columns of the covariates file to use, separated by commas; all if not given.",
        rich_help_panel=DATA,
    ),
]
Tissues = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Columns of the expression file to use: names or globs such as 'Brain*', separated by commas; all if not "
        "given.",
        rich_help_panel=DATA,
    ),
]
Snps = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="SNPs to use: names separated by commas, or @FILE with one name a line; all if not given.",
        rich_help_panel=DATA,
    ),
]
Top = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Choose this many SNPs by marginal association (Stouffer's Z over tissues).",
        rich_help_panel=DATA,
    ),
]
MaxR2 = Annotated[
    float,
    typer.Option(
        metavar="R2",
        min=0.0,
        max=1.0,
        help="With --top: leave out a SNP whose R² with a better one exceeds this.",
        rich_help_panel=DATA,
    ),
]
Intercept = Annotated[bool, typer.Option(help="Project an intercept out of every tissue.", rich_help_panel=DATA)]
Standardise = Annotated[
    bool,
    typer.Option(
        "--standardise", help="Scale every tissue to residual variance one before the fit.", rich_help_panel=DATA
    ),
]
SlabShape = Annotated[
    str,
    typer.Option(
        metavar="SHAPE",
        help="Covariance of effects in active tissues: g (the paper's), independent, power (a power of X'X, learned, "
        "with its interval), sparse, or a number alpha, (X'X)^-alpha.",
        rich_help_panel=MODEL,
        autocompletion=words(SLABS),
    ),
]
Mean = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Mean of effects in active tissues: free (the paper's), hierarchical (its scale is learned) or zero.",
        rich_help_panel=MODEL,
        autocompletion=words(MEANS),
    ),
]
MeanOfDraws = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Mean of effects in active tissues: free (the paper's) or hierarchical (its scale is learned).",
        rich_help_panel=MODEL,
        autocompletion=words(MEANS_OF_DRAWS),
    ),
]
Errors = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Error variances: equal (one for all tissues, the paper's) or unequal (every tissue has its own).",
        rich_help_panel=MODEL,
        autocompletion=words(ERRORS),
    ),
]
ErrorsOfDraws = Annotated[
    str,
    typer.Option(
        metavar="KIND",
        help="Errors: equal (one variance, the paper's), unequal (every tissue has its own), or correlated (over the "
        "tissues of a sample; slower, for a dozen tissues).",
        rich_help_panel=MODEL,
        autocompletion=words(ERRORS_OF_DRAWS),
    ),
]
Select = Annotated[
    bool,
    typer.Option(
        "--select",
        help="Try every slab with every mean, and keep the fit of the largest evidence.",
        rich_help_panel=MODEL,
    ),
]
PriorsPreset = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Preset of priors: weak, which is weakly informative.",
        rich_help_panel=MODEL,
        autocompletion=words(PRIORS),
    ),
]
Form = Annotated[
    str,
    typer.Option(
        metavar="FORM",
        help="marginal (effects integrated out: fast) or latent (as printed: slow, a check).",
        rich_help_panel=COMPUTATION,
        autocompletion=words(FORMS),
    ),
]
Starts = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Starts of the EM; the package's default if not given.", rich_help_panel=COMPUTATION
    ),
]
Draws = Annotated[int, typer.Option(metavar="N", min=1, help="Draws kept of each chain.", rich_help_panel=COMPUTATION)]
Tune = Annotated[
    int,
    typer.Option(
        metavar="N", min=0, help="Steps of each chain before the draws that are kept.", rich_help_panel=COMPUTATION
    ),
]
Chains = Annotated[
    int,
    typer.Option(
        metavar="N", min=1, help="Chains; at least two, to see whether they agree.", rich_help_panel=COMPUTATION
    ),
]
Seed = Annotated[int, typer.Option(metavar="N", min=0, help="Seed of the random numbers.", rich_help_panel=COMPUTATION)]
Jobs = Annotated[int, typer.Option(metavar="N", help="Processes; -1 for all cores.", rich_help_panel=COMPUTATION)]
Out = Annotated[
    Path,
    typer.Option(
        metavar="FILE",
        help="Where the result goes: a .nc (NetCDF) file or a .zarr store.",
        rich_help_panel=OUTPUT,
    ),
]
Figures = Annotated[bool, typer.Option(help="Draw figures.", rich_help_panel=OUTPUT)]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but notes and errors.", rich_help_panel=OUTPUT)]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document, which has everything and the notes too, and nothing else.",
        rich_help_panel=OUTPUT,
    ),
]
