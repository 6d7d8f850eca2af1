"""The pages that people read first: their links lead somewhere, their commands are those that run."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ebmodel import model

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("ebmodel/*/README.md")), ROOT / "simulations" / "README.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchor(heading: str) -> str:
    """What a heading is called in a link, as forges make it."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {anchor(found) for found in re.findall(r"(?m)^#+ (.+)$", prose(page.read_text(encoding="utf-8")))}


def broken(page: Path) -> list[str]:
    """Links of a page that lead nowhere, in the repository."""
    lost = []
    for target in LINK.findall(prose(page.read_text(encoding="utf-8"))):
        path, _, place = target.partition("#")
        if "://" in path:
            continue
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (place and place not in anchors(there)):
            lost.append(target)
    return lost


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    assert broken(page) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path):
    page = tmp_path / "README.md"
    page.write_text("# One\n[a](#one) [b](#two) [c](gone.md) ![d](README.md#one)\n```\n[e](code.md)\n```\n")
    assert broken(page) == ["#two", "gone.md"]


def test_every_notebook_is_listed():
    text = PAGES[0].read_text(encoding="utf-8")
    listed = re.findall(r"\(notebooks/(\d\d_\w+)\.ipynb\)", text)
    assert set(listed) == {path.stem for path in (ROOT / "notebooks").glob("[0-9]*.py")}
    assert listed[:9] == sorted(set(listed))


def test_ci_calls_the_test_command_of_the_readme():
    (command,) = re.findall(r"&& (uv run pytest [^#\n]*?)\s+#", PAGES[0].read_text(encoding="utf-8"))
    assert command in [line.split("#")[0].strip() for line in (ROOT / ".ci" / "run").read_text().splitlines()]


def test_the_notation_table_is_the_models():
    table = model.__doc__.partition("Notation\n--------\n")[2].rstrip()
    assert all(line.startswith("| ") for line in table.splitlines())
    assert f"\n\n{table}\n\n" in PAGES[0].read_text(encoding="utf-8")


def commands() -> list[str]:
    """Lines of the README's section on where to go that call the package, continued ones joined."""
    text = PAGES[0].read_text(encoding="utf-8").partition("## Where to go from here")[2].partition("\n## ")[0]
    blocks = "".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    lines = [line.split("#")[0].strip() for line in blocks.replace("\\\n", " ").splitlines()]
    return [" ".join(line.split()) for line in lines]


@pytest.mark.statistical
def test_the_commands_run_one_after_the_other(tmp_path: Path):
    """As printed, in an empty folder: minutes, so beside the long tests."""
    ways = {"ebmodel": "from ebmodel.cli import main; main()", "python": None}
    for command in commands():
        run, program, *arguments = shlex.split(command.removeprefix("uv "))
        assert run == "run"
        code = ways[program]
        call = [sys.executable, *(["-c", code] if code else []), *arguments]
        done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    made = ("gene/truth.csv", "gene/fit.nc", "gene/checked/report.html", "gene/compared", "my-results/theorem2.zarr")
    assert all((tmp_path / name).exists() for name in made)
