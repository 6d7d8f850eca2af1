"""Notebooks agree with their texts; the command that holds them together finds what is wrong; they keep their rules.

That each runs, and gives what is stored, takes minutes: ``python -m notebooks check --execute``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from ebmodel import InputError
from notebooks import __main__ as command

NAMES = command.names()
LARGEST = 1_000_000
"""Bytes of a stored notebook: one that is opened in a browser, and kept in a repository."""
FEWEST = 5
"""Assertions in a notebook whose results are to be checked."""
LINK = re.compile(r"\]\(([^)\s]+)\)")
GOOD = '# %% [markdown]\n# # Title\n\n# %%\nimport os\n\nprint(6 * 7, os.listdir("."))\n\n# %%\n2.5\n'
FAILING = "# %%\nx = 1\n\n# %%\nassert x == 2\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of notebooks of our own."""
    monkeypatch.setattr(command, "FOLDER", tmp_path)
    return tmp_path


def stream(text: str, name: str = "stdout") -> NotebookNode:
    return new_output("stream", name=name, text=text)


def executed(*outputs: NotebookNode) -> NotebookNode:
    """A notebook of a title, a cell without output and one that gave these."""
    cells = [
        new_markdown_cell("# Title"),
        new_code_cell("x = 1", execution_count=1),
        new_code_cell("print(x)", execution_count=2, outputs=list(outputs)),
    ]
    return new_notebook(cells=cells)


def text() -> NotebookNode:
    """The text of `executed`."""
    return new_notebook(cells=[new_markdown_cell("# Title"), new_code_cell("x = 1"), new_code_cell("print(x)")])


# The notebooks that are here ------------------------------------------------------------------------------------------


def test_every_text_has_a_notebook_and_every_notebook_a_text():
    assert NAMES
    assert sorted(path.stem for path in command.FOLDER.glob("*.ipynb")) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_its_text(name):
    assert command.faults(command.text_of(name), command.stored(name)) == []


@pytest.mark.parametrize("name", NAMES)
def test_is_small(name):
    assert (command.FOLDER / f"{name}.ipynb").stat().st_size < LARGEST


@pytest.mark.parametrize("name", NAMES)
def test_has_a_title_and_the_sections_that_a_reader_expects(name):
    cells = command.text_of(name).cells
    assert cells[0].cell_type == "markdown"
    assert cells[0].source.startswith(f"# {int(name.split('_')[0])}. ")
    headings = [heading for heading, _ in sections(prose(name))]
    assert [heading for heading in headings if heading in {"What to take away", "Exercises", "Solutions"}] == [
        "What to take away",
        "Exercises",
        "Solutions",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_its_results_are_asserted(name):
    tree = code(name)
    assert sum(isinstance(node, ast.Assert) for node in ast.walk(tree)) >= FEWEST


@pytest.mark.parametrize("name", NAMES)
def test_its_links_lead_somewhere(name):
    for target in LINK.findall(prose(name)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = command.FOLDER / path if path else command.FOLDER / f"{name}.ipynb"
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            assert anchor in {slug(heading) for heading, _ in sections(found.read_text())}, target
    assert "README" not in LINK.sub("", prose(name))  # a page that is named is led to


@pytest.mark.parametrize("name", NAMES)
def test_it_imports_nothing_private(name):
    imported = []
    for node in ast.walk(code(name)):
        if isinstance(node, ast.Import):
            imported += [alias.name for alias in node.names]
        if isinstance(node, ast.ImportFrom):
            imported += [f"{node.module}.{alias.name}" for alias in node.names]
    assert any(module.split(".")[0] == "ebmodel" for module in imported)
    assert [module for module in imported if re.search(r"(^|\.)_(?!_future__)", module)] == []


def prose(name: str) -> str:
    """The markdown of a notebook."""
    return "\n\n".join(cell.source for cell in command.text_of(name).cells if cell.cell_type == "markdown")


def code(name: str) -> ast.Module:
    """The code of a notebook."""
    return ast.parse("\n".join(cell.source for cell in command.text_of(name).cells if cell.cell_type == "code"))


def sections(markdown: str) -> list[tuple[str, int]]:
    """Headings and their levels, those in blocks of code left out."""
    bare = re.sub(r"^```.*?^```", "", markdown, flags=re.MULTILINE | re.DOTALL)
    return [(found[2].strip(), len(found[1])) for found in re.finditer(r"^(#+) (.+)$", bare, flags=re.MULTILINE)]


def slug(heading: str) -> str:
    """A heading as browsers are sent to it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


# What the command finds -----------------------------------------------------------------------------------------------


def test_no_fault_is_found_where_there_is_none():
    assert command.faults(text(), executed(stream("1\n"))) == []


def test_a_changed_source_is_a_fault_and_shown():
    notebook = executed(stream("1\n"))
    notebook.cells[1].source = "x = 2"
    found = command.faults(text(), notebook)
    assert {"-x = 1", "+x = 2"} <= set(found)


@pytest.mark.parametrize("change", ["one left out", "one too many", "another kind"])
def test_cells_that_are_not_the_texts_are_a_fault(change):
    notebook = executed()
    if change == "one left out":
        del notebook.cells[0]
    elif change == "one too many":
        notebook.cells.append(new_markdown_cell("More."))
    else:
        notebook.cells[1] = new_markdown_cell("x = 1")
    assert command.faults(text(), notebook)


@pytest.mark.parametrize("counts", [(None, None), (1, None), (2, 1), (1, 3), (2, 3), (1, 1)])
def test_cells_not_run_or_out_of_order_are_a_fault(counts):
    notebook = executed(stream("1\n"))
    for cell, count in zip(notebook.cells[1:], counts, strict=True):
        cell.execution_count = count
    assert command.faults(text(), notebook) == ["not run whole, in order"]


COMPLAINTS = {
    "stderr": (stream("a warning\n", "stderr"), "a warning"),
    "error": (new_output("error", ename="ValueError", evalue="no such thing", traceback=[]), "no such thing"),
}


@pytest.mark.parametrize("kind", COMPLAINTS)
def test_complaints_are_faults(kind):
    output, word = COMPLAINTS[kind]
    (found,) = command.faults(text(), executed(stream("1\n"), output))
    assert word in found


def shown(kind: str, number: str) -> NotebookNode:
    """Output that holds a number."""
    if kind == "stream":
        return stream(f"first line\nvalue {number}\n")
    mime, output_type = kind.split(" of a ")
    return new_output(
        output_type, data={mime: f"value {number}"}, **({"execution_count": 2} if "result" in kind else {})
    )


SHOWN = [
    "stream",
    "text/markdown of a display_data",
    "text/markdown of a execute_result",
    "text/plain of a execute_result",
]


@pytest.mark.parametrize("kind", SHOWN)
def test_a_changed_number_is_a_difference(kind):
    before, after = (executed(shown(kind, number)) for number in ("0.123", "0.124"))
    found = command.differences(before, after)
    assert "-value 0.123" in found
    assert "+value 0.124" in found


@pytest.mark.parametrize("place", range(3))
def test_no_difference_is_passed_over(place):
    lines = ["a 1", "b 2", "c 3"]
    other = [line + "0" * (k == place) for k, line in enumerate(lines)]
    found = command.differences(executed(stream("\n".join(lines))), executed(stream("\n".join(other))))
    assert [line for line in found if line in {f"-{lines[place]}", f"+{other[place]}"}] == [
        f"-{lines[place]}",
        f"+{other[place]}",
    ]


def test_equal_output_is_no_difference_and_lost_output_is_one():
    notebook = executed(stream("1\n"), shown("text/markdown of a display_data", "2"))
    assert command.differences(notebook, notebook) == []
    assert "-value 2" in command.differences(notebook, executed(stream("1\n")))


# Running --------------------------------------------------------------------------------------------------------------


def test_a_text_that_runs_gives_a_notebook_that_is_the_same_for_every_run(folder):
    (folder / "1_good.py").write_text(GOOD)
    name, notebook, seconds = command.execute("1_good")
    assert name == "1_good"
    assert seconds > 0
    assert [cell["id"] for cell in notebook.cells] == ["cell-0", "cell-1", "cell-2"]
    assert notebook.cells[1].outputs[0].text == "42 []\n"  # in an empty folder
    assert "language_info" not in notebook.metadata
    assert command.faults(command.text_of("1_good"), notebook) == []
    nbformat.validate(notebook)
    assert nbformat.writes(command.execute("1_good")[1]) == nbformat.writes(notebook)


def test_a_cell_that_fails_is_refused_with_the_notebooks_name(folder):
    (folder / "2_failing.py").write_text(FAILING)
    with pytest.raises(InputError, match="notebook 2_failing") as caught:
        command.execute("2_failing")
    assert "AssertionError" in str(caught.value)
    assert "2_failing.py" in str(caught.value)


def test_run_writes_what_check_accepts_until_the_text_changes(folder, capsys):
    path = folder / "1_good.py"
    path.write_text(GOOD)
    assert command.main(["run", "1_good"]) == 0
    assert (folder / "1_good.ipynb").is_file()
    assert command.main(["check"]) == 0
    capsys.readouterr()
    path.write_text(GOOD.replace("6 * 7", "6 * 8"))
    assert command.main(["check"]) == 1
    assert "+print(6 * 7" in capsys.readouterr().out


def test_a_stale_result_is_found_by_executing_afresh(folder, monkeypatch, capsys):
    monkeypatch.setattr(command, "_executed", rerun("2\n"))
    (folder / "1_stale.py").write_text("# %% [markdown]\n# # Title\n\n# %%\nx = 1\n\n# %%\nprint(x)\n")
    nbformat.write(executed(stream("1\n")), folder / "1_stale.ipynb")
    assert command.main(["check", "--execute"]) == 0  # a digit that depends on the machine is said, and no fault
    out = capsys.readouterr().out
    assert "1_stale: -1" in out
    assert "1_stale: +2" in out


def rerun(printed: str) -> Callable[[Any], list[tuple[str, NotebookNode]]]:
    """In place of executing: another result."""
    return lambda _options: [("1_stale", executed(stream(printed)))]


def test_a_name_that_is_not_there_is_refused_in_one_line(folder, capsys):
    (folder / "1_good.py").write_text(GOOD)
    assert command.main(["check", "3_other"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1
    assert "1_good" in printed.err
    assert "3_other" in printed.err


def test_a_failing_text_is_refused_by_the_command_and_nothing_written(folder, monkeypatch, capsys):
    def refuse(name: str) -> None:
        raise InputError("cells that run", "AssertionError", f"notebook {name}", "mend it")

    monkeypatch.setattr(command, "execute", refuse)
    (folder / "2_failing.py").write_text(FAILING)
    assert command.main(["run"]) == 2
    assert "notebook 2_failing" in capsys.readouterr().err
    assert not (folder / "2_failing.ipynb").exists()


def test_a_notebook_that_is_missing_is_a_fault(folder, capsys):
    (folder / "1_good.py").write_text(GOOD)
    assert command.main(["check"]) == 1
    assert capsys.readouterr().out == "1_good: there is no notebook: run it\n"
