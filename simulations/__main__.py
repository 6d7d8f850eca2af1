"""``python -m simulations run STUDY ...`` and ``python -m simulations report``."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re
import sys
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from ebmodel.errors import InputError

README = Path(__file__).parent.parent / "README.md"
MODULES = ("settings", "readings", "competition", "theorem2", "violations", "starts", "slabs", "bayes",
           "lindley", "sbc", "coverage")  # fmt: skip
"""Where the studies are: every `Study` of these modules."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 2 for input that cannot be used."""
    # one BLAS thread a worker: set before NumPy loads
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    options = _parser().parse_args(arguments)
    try:
        return options.do(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def studies(out: Path | None = None) -> dict:
    """Every study by name, its results in ``out`` if given."""
    from simulations.study import Study

    found = {}
    for module in MODULES:
        for study in vars(import_module(f"simulations.{module}")).values():
            if isinstance(study, Study):
                found[study.name] = replace(study, folder=out) if out else study
    return found


def insert(text: str, name: str, shown: str) -> str:
    """Replace what stands between the README's markers for a study."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{shown}\n\n{found[2]}", text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run studies, going on from what is stored")
    run.add_argument("study", nargs="+", help="names (`list` shows them), or one of your own: FILE.py:VARIABLE")
    run.add_argument("--replications", type=int, help="replications a cell; the study's own number if not given")
    run.set_defaults(do=_run)
    report = commands.add_parser("report", help="run what is lacking, then write figures, tables, report and README")
    report.add_argument("--stored", action="store_true", help="run nothing: fail where results are lacking")
    report.add_argument("--study", action="append", help="these studies' tables and figures only")
    report.set_defaults(do=_report)
    for command in (run, report):
        command.add_argument("--jobs", type=int, default=-1, help="worker processes; all cores if not given")
        command.add_argument("--scheduler", help="run on this Dask cluster instead, tcp://host:port")
        command.add_argument("--out", type=Path, help="folder of the results; simulations/results if not given")
    shown = commands.add_parser("list", help="the studies, their size, and how much of them is stored")
    shown.set_defaults(do=_list, out=None)
    return parser


def _run(options: argparse.Namespace) -> int:
    every = studies(options.out)
    chosen = [_find(name, every, options.out) for name in options.study]
    for study in chosen:
        results = study.run(options.replications, options.jobs, options.scheduler)
        print(f"{study.name}: {len(results)} replications in {study.store.path}")
        if study.table:
            print(f"\n{study.table(results)}\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    from simulations import report

    every = studies(options.out)
    chosen = [_find(name, every, options.out) for name in options.study or every]
    if not options.stored:
        for study in chosen:
            study.run(jobs=options.jobs, scheduler=options.scheduler)
    folder = options.out or chosen[0].folder
    shown = {study.name: study.table(study.read()) for study in chosen if study.table}
    for study in chosen:
        study.draw()
    if not options.study:
        shown |= report.write(every, folder)
    for name, text in shown.items():
        print(f"\n{name}\n\n{text}")
    if options.out is None:
        text = README.read_text(encoding="utf-8")
        for name, part in shown.items():
            text = insert(text, name, part)
        README.write_text(text, encoding="utf-8")
    return 0


def _list(_: argparse.Namespace) -> int:
    import numpy as np

    for study in studies().values():
        n, size = study.replications, len(study.cells)
        lacking = int(np.any(list(study.lacking(n).values()), axis=0).sum())
        stored = f"{size * n - lacking} of {size * n} stored"
        print(f"{study.name:12} {size:3} cells x {n:3} replications, {stored}")
    return 0


def _find(name: str, every: dict, out: Path | None):
    """A study by name, or from a user's file."""
    from simulations.study import Study

    if name in every:
        return every[name]
    path, _, variable = name.rpartition(":")
    if not path:
        raise InputError(f"one of {', '.join(every)}, or FILE.py:VARIABLE", repr(name), "run", "choose one")
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise InputError("a Python file", repr(path), "run", "check the path")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    study = getattr(module, variable, None)
    if not isinstance(study, Study):
        raise InputError(f"a Study named {variable!r}", type(study).__name__, path, "name the variable that holds it")
    _send_by_value(module)
    return replace(study, folder=out or Path(path).resolve().parent)


def _send_by_value(module) -> None:
    """Workers cannot import a user's file: send its functions whole."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)


if __name__ == "__main__":
    sys.exit(main())
