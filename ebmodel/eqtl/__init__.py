"""A multi-tissue eQTL study from files to figures: Section 7 of the paper at the size of GTEx.

`expression`, `covariates` and `variants` read what studies have; `pruning` and `scan` choose a gene's SNPs;
`crossvalidation` fits and predicts; `run` does it for every gene of a genome and `store` keeps what was found;
`discoveries` and `export` say it; `simulation` writes files of the same shape with the truth beside them.
"""
