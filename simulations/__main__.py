"""``python -m simulations run STUDY ...`` and ``python -m simulations report``."""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import replace
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from ebmodel.errors import InputError, expect

if TYPE_CHECKING:
    from simulations.study import Study

PAGES = Path(__file__).parent.parent / "README.md", Path(__file__).parent / "README.md"
"""Where results are shown: between markers, each of which stands on one page."""
MODULES = {
    "settings": "settings",
    "readings": "readings",
    "naive": "naive",
    "setting2": "setting2",
    "unconstrained": "unconstrained",
    "competition": "competition",
    "robustness": "robustness",
    "bounds": "bounds",
    "checks": "checks",
    "screening": "screening",
    "mash": "mash",
    "mash_errors": "mash_errors",
    "meeting": "meeting",
    "theorem2": "theorem2",
    "starts": "starts",
    "sizes": "starts",
    "slabs": "slabs",
    "peers": "peers",
    "variational": "variational",
    "variational_bayes": "variational",
    "shapes": "shapes",
    "bayes": "bayes",
    "lindley": "lindley",
    "sbc": "sbc",
    "coverage": "coverage",
}
"""Study -> the module it is in, imported when it is needed."""
AUDIT = (
    "settings",
    "readings",
    "naive",
    "setting2",
    "unconstrained",
    "competition",
    "robustness",
    "theorem2",
    "starts",
)
"""What the audit is made of, and its report runs."""


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 2 for input that cannot be used."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["predict"]:  # its options are its own
        from simulations import prediction

        return prediction.main(arguments[1:])
    if arguments[:1] == ["gtex"]:
        from simulations import gtex

        return gtex.main(arguments[1:])
    options = _parser().parse_args(arguments)
    try:
        return options.do(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def find(name: str, out: Path | None = None) -> Study:
    """A study by name, or ``FILE.py:VARIABLE`` from a user's file; its results in ``out`` if given.

    Raises
    ------
    InputError
        If there is none.
    """
    from simulations.study import Study

    path, _, variable = name.rpartition(":")
    if name in MODULES:
        module = import_module(f"simulations.{MODULES[name]}")
        study = next(s for s in vars(module).values() if isinstance(s, Study) and s.name == name)
        return replace(study, folder=out) if out else study
    expect(bool(path), f"one of {', '.join(MODULES)}, or FILE.py:VARIABLE", repr(name), "the command", "choose one")
    expect(Path(path).is_file(), "a Python file", repr(path), "the command", "check the path")
    study = getattr(_load(path), variable, None)
    do = "name the variable that holds it"
    expect(isinstance(study, Study), f"a Study named {variable!r}", type(study).__name__, path, do)
    return replace(study, folder=out or Path(path).resolve().parent)


def insert(text: str, name: str, shown: str) -> str:
    """Replace what stands between a page's markers for a study."""
    pattern = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{shown}\n\n{found[2]}", text)


def shows(name: str, shown: str) -> bool:
    """Whether one page, and no other, has the markers and what belongs between them."""
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    having = [text for text in texts if f"<!-- {name} -->" in text]
    return len(having) == 1 and insert(having[0], name, shown) == having[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulations", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run studies, going on from what is stored")
    run.add_argument("study", nargs="+", help="names (`list` shows them), or one of your own: FILE.py:VARIABLE")
    run.add_argument("--replications", type=int, help="replications a cell; the study's own number if not given")
    run.set_defaults(do=_run)
    what = "run what the audit lacks, then write figures, tables, report and READMEs"
    report = commands.add_parser("report", help=what)
    report.add_argument("--stored", action="store_true", help="run nothing: fail where results are lacking")
    report.add_argument("--replications", type=int, help="a quick look: no more than this many in a cell")
    report.add_argument("--study", action="append", help="these studies' tables and figures only")
    report.set_defaults(do=_report)
    for command in (run, report):
        command.add_argument("--jobs", type=int, default=-1, help="worker processes; all cores if not given")
        command.add_argument("--scheduler", help="run on this Dask cluster instead, tcp://host:port")
        command.add_argument("--out", type=Path, help="folder of the results; simulations/results if not given")
    commands.add_parser("predict", add_help=False, help="cross-validated R² on your own data; see `predict --help`")
    commands.add_parser("gtex", add_help=False, help="keep what a simulated genome-wide run found; see `gtex --help`")
    shown = commands.add_parser("list", help="the studies, their size, and how much of them is stored")
    shown.set_defaults(do=_list, out=None)
    return parser


def _run(options: argparse.Namespace) -> int:
    for study in [find(name, options.out) for name in options.study]:
        results = study.run(options.replications, options.jobs, options.scheduler)
        print(f"{study.name}: {len(results)} replications in {study.store.path}")
        if study.table:
            print(f"\n{study.table(results)}\n")
    return 0


def _report(options: argparse.Namespace) -> int:
    from simulations import gtex, prediction, report
    from simulations.study import RESULTS

    every = {name: find(name, options.out) for name in options.study or AUDIT}
    if not options.stored:
        for study in every.values():
            most = min(study.replications, options.replications or study.replications)
            study.run(most, options.jobs, options.scheduler)
    if not options.study:  # the other studies take hours: shown if they are there
        others = {name: find(name, options.out) for name in MODULES if name not in AUDIT}
        every |= {name: study for name, study in others.items() if study.store.exists}
    shown = {study.name: study.table(study.read()) for study in every.values() if study.table}
    for study in every.values():
        study.draw()
        study.write_tables()
    if not options.study:
        shown |= report.write(every)
        folder = options.out or RESULTS
        if (folder / "prediction").exists():
            shown["prediction"] = prediction.show(folder)
        if (gtex.KEPT / f"{gtex.FULL}.json").is_file():
            shown["gtex"] = gtex.show()
    for name, text in shown.items():
        print(f"\n{name}\n\n{text}")
    if options.out is None:
        for page in PAGES:
            text = page.read_text(encoding="utf-8")
            for name, part in shown.items():
                text = insert(text, name, part)
            page.write_text(text, encoding="utf-8")
    return 0


def _list(_: argparse.Namespace) -> int:
    import numpy as np

    for study in map(find, MODULES):
        n, size = study.replications, len(study.cells)
        lacking = int(np.any(list(study.lacking(n).values()), axis=0).sum())
        print(f"{study.name:12} {size:3} cells x {n:3} replications, {size * n - lacking} of {size * n} stored")
    return 0


def _load(path: str) -> ModuleType:
    """A user's file as a module, whose functions are sent to workers whole, as these cannot import it."""
    import cloudpickle

    spec = spec_from_file_location(Path(path).stem, path)
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    cloudpickle.register_pickle_by_value(module)
    return module


if __name__ == "__main__":
    sys.exit(main())
