"""How inner loops are compiled: one decorator, so that one place decides caching and floating-point rules.

Rules are strict: sums are rounded in the order in which they are written. With sums that may be reordered the same
kernel gave other last digits in the process that had compiled it than in those that read it from the cache, and a
study's results depended on which process had done the work.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numba

__all__ = ["kernel"]


def kernel[F: Callable[..., Any]](function: F) -> F:
    """Compile with Numba, cached on disk; division by zero gives infinity or NaN, as in NumPy."""
    return cast("F", numba.njit(cache=True, error_model="numpy")(function))
