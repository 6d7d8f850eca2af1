"""The one way to run in parallel: joblib's processes, or whatever backend `joblib.parallel_config` names.

Within a task linear algebra keeps to one thread: the tasks already fill the cores, and the number of threads changes
the order in which sums are rounded.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, wraps
from threading import local
from typing import Any, cast

from joblib import Parallel, delayed, parallel_config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from threadpoolctl import ThreadpoolController

from ebmodel.errors import InputError, expect

__all__ = ["on_cluster", "one_thread", "spread"]

PATIENCE = 10.0
"""Seconds to wait for a scheduler."""
WORKERS_PATIENCE = 60.0
"""Seconds to wait for its first worker."""


def spread[Result](
    function: Callable[..., Result],
    tasks: Sequence[tuple[Any, ...]],
    *,
    jobs: int,
    title: str,
    progress: bool = True,
    ordered: bool = True,
    size: Callable[[Result], int] | None = None,
    total: int | None = None,
) -> Iterator[Result]:
    """Call ``function(*task)`` for every task, in ``jobs`` processes, and give the results as they come.

    Parameters
    ----------
    function
        What to call; picklable.
    tasks
        Its arguments.
    jobs
        Processes; -1 for all cores.
    title
        Shown beside the progress bar.
    progress
        Whether to show a bar with the time left.
    ordered
        Whether results keep the order of tasks; if not, each is given when it is there.
    size, total
        For a bar that counts more than tasks: how much one result is worth, and all together.

    Raises
    ------
    InputError
        If ``jobs`` is 0.
    """
    expect(jobs != 0, "a number of processes, or -1 for all cores", jobs, "jobs", "leave the default")
    columns = [TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    kind = "generator" if ordered else "generator_unordered"
    with Progress(*columns, console=Console(stderr=True), disable=not progress) as bar:
        row = bar.add_task(title, total=len(tasks) if total is None else total)
        # a worker that has grown is replaced by a fresh one, and no result is lost
        warnings.filterwarnings("ignore", "A worker stopped while some jobs were given to the executor", UserWarning)
        for result in Parallel(n_jobs=jobs, return_as=kind)(delayed(_single)(function, task) for task in tasks):
            yield result
            bar.advance(row, 1 if size is None else size(result))


@contextmanager
def on_cluster(address: str | None, option: str) -> Iterator[None]:
    """Run what is spread within this context on the workers of a Dask cluster, if one is named.

    Parameters
    ----------
    address
        Of its scheduler, ``tcp://host:port``; None to stay on this machine. Its workers need this package.
    option
        That gave the address, for error messages.

    Raises
    ------
    InputError
        If the package distributed is missing, or no scheduler answers there.
    """
    if address is None:
        yield
        return
    try:
        from distributed import Client
        from distributed.comm.addressing import resolve_address
    except ImportError as error:
        raise InputError("the package distributed", "no such package", option, "pip install distributed") from error
    client, resolve = cast("Any", Client), cast("Any", resolve_address)  # untyped
    try:
        resolve(address)  # first: a client refused for its address stays the default of this process
        connected = client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        do = "check the address, or start a scheduler with `dask scheduler`, and workers with `dask worker`"
        raise InputError("a Dask scheduler that answers", str(error), f"{option} {address}", do) from error
    with connected, parallel_config(backend="dask", wait_for_workers_timeout=WORKERS_PATIENCE):
        yield


def one_thread[F: Callable[..., Any]](function: F) -> F:
    """Decorate a function whose linear algebra keeps to one thread: small matrices gain nothing from more.

    Threads that wait for each other on a busy machine lose a factor of a hundred.
    """

    @wraps(function)
    def limited(*arguments: Any, **settings: Any) -> Any:
        if getattr(_held, "to_one", False):  # by a caller: telling the libraries again costs more than small matrices
            return function(*arguments, **settings)
        _held.to_one = True
        try:
            with _controller().limit(limits=1):
                return function(*arguments, **settings)
        finally:
            _held.to_one = False

    return cast("F", limited)


_held = local()
"""Whether this thread is within a function that keeps linear algebra to one thread."""


@one_thread
def _single[Result](function: Callable[..., Result], task: tuple[Any, ...]) -> Result:
    return function(*task)


@lru_cache
def _controller() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401 - has a BLAS of its own, which only a loaded library's controller sees

    return ThreadpoolController()
