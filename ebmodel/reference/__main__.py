"""``python -m ebmodel.reference --out reference``: write the reference as HTML."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ebmodel.errors import InputError
from ebmodel.reference.building import build


def main(args: Sequence[str] | None = None) -> int:
    """Write the reference; exit status 0, or 2 with one line on stderr if it cannot be written."""
    parser = argparse.ArgumentParser(prog="python -m ebmodel.reference", description=main.__doc__)
    parser.add_argument("--out", default="reference", help="the folder (default: %(default)s)")
    out = parser.parse_args(args).out
    try:
        written = build(out)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{len(written)} pages; start at {written[0]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
