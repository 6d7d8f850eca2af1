"""Names of dimensions: the only place where they are written."""

from __future__ import annotations

from typing import Final

__all__ = [
    "ALPHA",
    "BIN",
    "CANDIDATE",
    "CHAIN",
    "CHECK",
    "COMPONENT",
    "CONDITION",
    "CONDITION_OTHER",
    "COVARIANCE",
    "COVARIATE",
    "DIRECTION",
    "DRAW",
    "EFFECT",
    "ENTRY",
    "ESTIMATOR",
    "FOLD",
    "GENE",
    "ITERATION",
    "LEVEL",
    "MEASUREMENT",
    "MEASUREMENT_OTHER",
    "METHOD",
    "OBSERVATION",
    "POINT",
    "QUANTITY",
    "REPLICATE",
    "SAMPLE",
    "SCALE",
    "SCREENING",
    "SNP",
    "SNP_OTHER",
    "START",
    "THRESHOLD",
    "TISSUE",
    "TISSUE_OTHER",
]

ALPHA: Final = "alpha"
SAMPLE: Final = "sample"
SNP: Final = "snp"
SNP_OTHER: Final = "snp_other"
TISSUE: Final = "tissue"
TISSUE_OTHER: Final = "tissue_other"
COVARIATE: Final = "covariate"
ITERATION: Final = "iteration"
START: Final = "start"
CHAIN: Final = "chain"
CHECK: Final = "check"
DRAW: Final = "draw"
CANDIDATE: Final = "candidate"
DIRECTION: Final = "direction"
OBSERVATION: Final = "observation"
QUANTITY: Final = "quantity"
REPLICATE: Final = "replicate"
BIN: Final = "bin"
LEVEL: Final = "level"
POINT: Final = "point"
THRESHOLD: Final = "threshold"
ENTRY: Final = "entry"
ESTIMATOR: Final = "estimator"
FOLD: Final = "fold"
GENE: Final = "gene"
METHOD: Final = "method"
SCREENING: Final = "screening"
EFFECT: Final = "effect"
CONDITION: Final = "condition"
CONDITION_OTHER: Final = "condition_other"
COVARIANCE: Final = "covariance"
SCALE: Final = "scale"
COMPONENT: Final = "component"
MEASUREMENT: Final = "measurement"
MEASUREMENT_OTHER: Final = "measurement_other"
