"""``python -m notebooks run`` and ``check``: from texts to executed notebooks, and whether the two agree.

A notebook's one source is its text ``NAME.py`` (jupytext's percent format). ``run`` executes it and writes
``NAME.ipynb`` beside it; ``check`` holds every stored notebook against its text; ``check --execute`` also executes the
texts afresh, and leaves the stored notebooks as they are.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from difflib import unified_diff
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from ebmodel.errors import InputError, expect
from ebmodel.parallel import spread

FOLDER = Path(__file__).parent
KERNEL = {"name": "python3", "display_name": "Python 3", "language": "python"}
TIMEOUT = 600
"""Seconds a cell may take."""


def names() -> list[str]:
    """Every notebook's name, in order: that of its text."""
    return sorted(path.stem for path in FOLDER.glob("[0-9]*.py"))


def text_of(name: str) -> NotebookNode:
    """The cells of a text, not executed; a cell's id is its place, so that running again changes no id."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{place}"
    notebook.metadata = {"kernelspec": KERNEL}
    return notebook


def stored(name: str) -> NotebookNode:
    """The executed notebook beside a text."""
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)


def execute(name: str) -> tuple[str, NotebookNode, float]:
    """Run a text from top to bottom, in an empty folder and a Python of its own: name, notebook, seconds.

    Raises
    ------
    InputError
        If a cell fails.
    """
    notebook, start = text_of(name), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook, timeout=TIMEOUT, kernel_name=KERNEL["name"], record_timing=False, coalesce_streams=True,
            resources={"metadata": {"path": folder}}, extra_arguments=["--log-level=ERROR"],
        )  # fmt: skip
        try:
            shown = {key: value for key, value in os.environ.items() if key != "MPLBACKEND"}  # figures come inline
            client.execute(env=shown)
        except CellExecutionError as error:
            lines = str(error).strip().splitlines()
            do = f"mend it in {name}.py:\n" + "\n".join(lines)
            raise InputError("cells that run", error.ename, f"notebook {name}", do) from error
    notebook.metadata.pop("language_info", None)  # the version of whoever ran it last
    return name, notebook, time.perf_counter() - start


def faults(text: NotebookNode, notebook: NotebookNode) -> list[str]:
    """What is wrong with a stored notebook: cells that are not the text's, not run in order, or that complain."""
    ours, theirs = ([(cell.cell_type, cell.source) for cell in nb.cells] for nb in (text, notebook))
    if ours != theirs:
        sources = ["\n".join(f"[{kind}]\n{source}" for kind, source in cells).splitlines() for cells in (ours, theirs)]
        return ["cells differ from the text's:", *unified_diff(*sources, "text", "notebook", lineterm="", n=1)]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    wrong = [] if [c.execution_count for c in code] == list(range(1, len(code) + 1)) else ["not run whole, in order"]
    for cell in code:
        for output in cell.outputs:
            complaint = output.get("name") == "stderr" or output.output_type == "error"
            if complaint:
                wrong.append(f"complains: {output.get('text', output.get('evalue'))}")
    return wrong


def differences(before: NotebookNode, after: NotebookNode) -> list[str]:
    """Lines of text output that another run gives otherwise: digits that depend on the machine, or stale results."""
    return list(unified_diff(_printed(before), _printed(after), "stored", "executed now", lineterm="", n=0))


def _printed(notebook: NotebookNode) -> list[str]:
    lines: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            drawn = "image/png" in data  # whose text is but a figure's repr
            shown = output.get("text") or data.get("text/markdown") or ("" if drawn else data.get("text/plain"))
            lines += (shown or "").splitlines()
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run or check; 1 if a notebook is at fault, 2 for input that cannot be used."""
    options = _parser().parse_args(arguments)
    try:
        unknown = set(options.name) - set(names())
        expect(not unknown, f"one of {', '.join(names())}", ", ".join(sorted(unknown)), "the command", "choose one")
        return options.do(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m notebooks", description=__doc__)
    commands = parser.add_subparsers(required=True)
    run = commands.add_parser("run", help="execute texts, and write the notebooks")
    run.set_defaults(do=_run)
    check = commands.add_parser("check", help="hold stored notebooks against their texts")
    check.add_argument("--execute", action="store_true", help="execute the texts afresh too")
    check.set_defaults(do=_check)
    for command in (run, check):
        command.add_argument("name", nargs="*", help="which; all if none")
        command.add_argument("--jobs", type=int, default=1, help="how many at a time")
    return parser


def _executed(options: argparse.Namespace) -> list[tuple[str, NotebookNode]]:
    """Execute the notebooks asked for, and say what each took and what it complains of."""
    done, tasks = [], [(name,) for name in options.name or names()]
    for name, notebook, seconds in spread(execute, tasks, jobs=options.jobs, title="Notebooks", progress=False):
        print(f"{name}: {seconds:.0f} s", flush=True)
        done.append((name, notebook))
    return done


def _run(options: argparse.Namespace) -> int:
    for name, notebook in _executed(options):
        nbformat.write(notebook, FOLDER / f"{name}.ipynb")
    return _faulty(options.name or names())


def _check(options: argparse.Namespace) -> int:
    code = _faulty(options.name or names())
    for name, notebook in _executed(options) if options.execute else []:
        wrong = faults(text_of(name), notebook)
        code = max(code, int(bool(wrong)))
        for line in wrong + differences(stored(name), notebook):
            print(f"{name}: {line}")
    return code


def _faulty(which: list[str]) -> int:
    """Print what is wrong with stored notebooks; 1 if anything is."""
    code = 0
    for name in which:
        there = (FOLDER / f"{name}.ipynb").is_file()
        for line in faults(text_of(name), stored(name)) if there else ["there is no notebook: run it"]:
            print(f"{name}: {line}")
            code = 1
    return code


if __name__ == "__main__":
    sys.exit(main())
