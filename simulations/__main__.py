"""``python -m simulations run STUDY`` and ``python -m simulations report``."""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


def main(arguments: list[str] | None = None) -> int:
    # one BLAS thread a worker: set before NumPy loads
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    from simulations import bayes, coverage, lindley, sbc, slabs, starts

    every = starts.STUDY, starts.SIZES_STUDY, slabs.STUDY, bayes.STUDY, lindley.STUDY, sbc.STUDY, coverage.STUDY
    studies = {study.name: study for study in every}
    parser = argparse.ArgumentParser(prog="python -m simulations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run a study, resuming what is stored")
    run.add_argument("study", choices=studies)
    run.add_argument("--replications", type=int, help="replications a cell; the study's own number if not given")
    run.add_argument("--jobs", type=int, default=-1, help="worker processes; all cores if not given")
    report = commands.add_parser("report", help="print the tables from the stored results")
    report.add_argument("--study", choices=studies, action="append", help="one study; all if not given")
    report.add_argument("--write", action="store_true", help="draw the figures and put the tables into the README")
    options = parser.parse_args(arguments)
    if options.command == "run":
        study = studies[options.study]
        results = study.run(options.replications or study.replications, options.jobs)
        print(study.table(results))
        return 0
    text = README.read_text(encoding="utf-8")
    for name in options.study or studies:
        shown = studies[name].table(studies[name].read())
        print(f"\n{name}\n\n{shown}")
        text = insert(text, name, shown)
        if options.write:
            studies[name].draw()
    if options.write:
        README.write_text(text, encoding="utf-8")
    return 0


def insert(text: str, name: str, shown: str) -> str:
    """Replace what stands between the README's markers for a study."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{shown}\n\n{found[2]}", text)


if __name__ == "__main__":
    sys.exit(main())
