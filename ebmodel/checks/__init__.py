"""Checks of the model's assumptions: a discrepancy for each, and what it is where all of them hold."""

from __future__ import annotations

from ebmodel.checks.catalogue import CHECKS, Check
from ebmodel.checks.checking import check

__all__ = ["CHECKS", "Check", "check"]
