"""A multi-tissue eQTL study from files to figures: Section 7 of the paper at the size of GTEx.

`expression`, `covariates` and `variants` read what studies have; `pruning` and `scan` choose a gene's SNPs;
`crossvalidation` fits and predicts; `run` does it for every gene of a genome and `store` keeps what was found;
`discoveries`, `report` and `export` say it; `simulation` writes files of the same shape with the truth beside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ebmodel.lazy import attach

if TYPE_CHECKING:
    from ebmodel.eqtl.covariates import read_covariates as read_covariates
    from ebmodel.eqtl.discoveries import accuracy as accuracy
    from ebmodel.eqtl.discoveries import egenes as egenes
    from ebmodel.eqtl.discoveries import gains as gains
    from ebmodel.eqtl.discoveries import read_truth as read_truth
    from ebmodel.eqtl.export import export_predictdb as export_predictdb
    from ebmodel.eqtl.export import export_table as export_table
    from ebmodel.eqtl.expression import read_expression as read_expression
    from ebmodel.eqtl.ledger import Ledger as Ledger
    from ebmodel.eqtl.pruning import indep_pairwise as indep_pairwise
    from ebmodel.eqtl.pruning import prune_variants as prune_variants
    from ebmodel.eqtl.report import write_report as write_report
    from ebmodel.eqtl.run import run_study as run_study
    from ebmodel.eqtl.scan import marginal_t as marginal_t
    from ebmodel.eqtl.scan import select as select
    from ebmodel.eqtl.scan import stouffer as stouffer
    from ebmodel.eqtl.settings import Settings as Settings
    from ebmodel.eqtl.settings import read_settings as read_settings
    from ebmodel.eqtl.simulation import simulate_study as simulate_study
    from ebmodel.eqtl.store import open_results as open_results
    from ebmodel.eqtl.variants import open_variants as open_variants

_WHERE = {
    "Ledger": "ledger",
    "Settings": "settings",
    "accuracy": "discoveries",
    "egenes": "discoveries",
    "export_predictdb": "export",
    "export_table": "export",
    "gains": "discoveries",
    "indep_pairwise": "pruning",
    "marginal_t": "scan",
    "open_results": "store",
    "open_variants": "variants",
    "prune_variants": "pruning",
    "read_covariates": "covariates",
    "read_expression": "expression",
    "read_settings": "settings",
    "read_truth": "discoveries",
    "run_study": "run",
    "select": "scan",
    "simulate_study": "simulation",
    "stouffer": "scan",
    "write_report": "report",
}

__getattr__, __dir__, __all__ = attach(__name__, _WHERE)
