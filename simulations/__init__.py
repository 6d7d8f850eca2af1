"""Declarative simulation studies: which data, which estimators, which metrics, how many replications.

``python -m simulations run STUDY`` runs one (resuming where it stopped), ``python -m simulations report`` prints the
tables from the stored results and checks that the README shows them.
"""
