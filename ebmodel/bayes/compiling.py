"""How PyMC models are compiled: once for data of one shape, and with sums rounded in the order written.

PyTensor lets LLVM reorder sums (`fastmath`). The order then depends on the code around a function, which is another
when it has just been compiled than when it is read from the cache, so that the first run of a seed on a machine gave
other draws than all that followed. `ebmodel.kernel` has the same rule for the package's own loops.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

import pymc as pm
import pytensor

__all__ = ["compiled_once", "strictly"]

_compiled: dict[Hashable, tuple[pm.Model, Any]] = {}
MOST = 16
"""Compiled models kept in memory."""


@contextmanager
def strictly() -> Iterator[None]:
    """Whatever PyTensor compiles within this context rounds in the order written; nothing within it warns."""
    with pytensor.config.change_flags(numba__fastmath=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Numba, about what it cannot cache; of PyMC, which diagnostics say again
        yield


def compiled_once(key: Hashable, build: Callable[[], pm.Model]) -> tuple[pm.Model, Any]:
    """Compile a model for NUTS, or find it where one with the same key has been compiled.

    Parameters
    ----------
    key
        All that the model depends on but its data.
    build
        Makes it.

    Returns
    -------
    Model, compiled model
        PyMC's, and nutpie's, whose data are those of the first.
    """
    import nutpie

    if key not in _compiled:
        if len(_compiled) >= MOST:
            _compiled.pop(next(iter(_compiled)))
        with strictly():
            model = build()
            _compiled[key] = model, nutpie.compile_pymc_model(model)
    return _compiled[key]
