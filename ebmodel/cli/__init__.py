"""The command line: ``ebmodel demo``, ``simulate``, ``fit``, ``check``, ``sample``, ``compare``, ``gtex`` and ``mash``.

What is heavy to import is imported inside the commands, so that help and usage errors come at once. Bad input ends in
one line on stderr and exit status 2; results are written whole or not at all.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

from ebmodel.errors import InputError

__all__ = ["main"]

UNUSABLE, INTERRUPTED, UNREAD = 2, 130, 141
"""Exit statuses beside 0, and 1 for errors of the program's own: as shells have them for SIGINT and SIGPIPE."""
OF_THE_MACHINE = frozenset({
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EEXIST,
    errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EMFILE, errno.ENFILE,
})  # fmt: skip
"""What the files and folders are to blame for, not the program."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit: `UNUSABLE` with one line on stderr if the input cannot be used.

    An error of the program's own keeps its traceback.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # of a terminal that cannot show a letter
    status = _flushed(_status(args))
    if status == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    sys.exit(status)


def _status(args: Sequence[str] | None) -> int:
    """Run the command line: its exit status."""
    try:
        from ebmodel.cli.app import app

        app(args=args, prog_name="ebmodel")
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # which Typer and Rich make an exit of
            return UNREAD
        return ended.code if isinstance(ended.code, int) else 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except InputError as error:
        return _refused(str(error))
    except OSError as error:
        return _refused(_explained(error))
    return 0


def _flushed(status: int) -> int:
    """Write what is still to be written: the exit status, another one if that cannot be done."""
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python says it again as it ends
        return UNREAD if isinstance(error, BrokenPipeError) else _refused(_explained(error))
    return status


def _explained(error: OSError) -> str:
    """One line on an error that is not the program's.

    Raises
    ------
    OSError
        Any other.
    """
    if error.errno not in OF_THE_MACHINE:
        raise error
    where = str(error.filename or "a file or the output")
    return str(
        InputError("a place that can be read and written", str(error.strerror), where, "make room or choose another")
    )


def _refused(text: str) -> int:
    print(f"error: {' '.join(text.split())}", file=sys.stderr)
    return UNUSABLE
