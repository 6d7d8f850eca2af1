"""One page of HTML on a fit, its checks and its full posterior, to send to a colleague."""

from __future__ import annotations

from ebmodel.reports.building import report

__all__ = ["report"]
