"""The reference has every public name, and every public name says what it takes, gives and raises."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import ebmodel
from ebmodel import labels, reference
from ebmodel.errors import InputError, expect
from ebmodel.model import Array
from tests.docstrings import (
    CALLED_PAGES,
    CLASSES,
    ENTRIES,
    PAGES,
    Docstring,
    Entry,
    Item,
    explained,
    home,
    items,
    meant,
    members,
    parse,
    public,
)

# What is wrong with a docstring ---------------------------------------------------------------------------------------


def own_errors(function: Any) -> set[str]:
    """Exceptions that a function's own body raises, those of functions within it left out."""
    try:
        tree = ast.parse(dedent(inspect.getsource(function))).body[0]
    except OSError:  # made by dataclass
        return set()
    raised, nodes = set(), list(ast.iter_child_nodes(tree))
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            continue
        if isinstance(node, ast.Raise) and node.exc is not None:
            made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            raised.add("InputError" if ast.unparse(made).endswith(".within") else ast.unparse(made))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "expect":
            raised.add("InputError")
        nodes += ast.iter_child_nodes(node)
    return raised


LETTERS = set("nmpkJPRKL")
"""Dimensions by the papers' letters, in the twins."""
OTHERS = {"pattern", "rank", "column", "donor", "variant", "pair", "row", "rows", "observed", "penalty", "...", "…"}
"""Dimensions within the mathematics, beside those that results have."""
DIMENSIONS = {getattr(labels, name) for name in labels.__all__} | LETTERS | OTHERS


def shapes(text: str) -> list[str]:
    """Shapes in a text: brackets that hold dimensions and nothing else."""
    found = re.findall(r"\(([^()]*(?:\(\w+\))?)\)", text)
    sizes = re.compile(r"len\(\w+\)|\w+ \+ [13]|\w+ or 1|rank of all|strong|kept")
    parts = [re.split(r",\s*", inside.strip().removesuffix(",")) for inside in found]
    return [
        inside
        for inside, each in zip(found, parts, strict=True)
        if not inside
        or all(part in DIMENSIONS or sizes.fullmatch(part) or (part == "2" and "," in inside) for part in each)
    ]


def is_array(annotation: Any) -> bool:
    return re.search(r"\bArray\b|NDArray|DataArray", re.sub(r"Callable\[.*\]", "", str(annotation))) is not None


def unexplained(item: Item, text: Docstring, *, whole: bool) -> Iterator[str]:
    """Parameters that are not documented, or documented and not there."""
    parameters = [name for name in inspect.signature(item.value).parameters if name not in ("self", "cls")]
    annotations = {name: p.annotation for name, p in inspect.signature(item.value).parameters.items()}
    listed = [name.lstrip("*") for name in text.names("Parameters")]
    yield from (f"documents {name}, which is no parameter" for name in listed if name not in parameters)
    yield from (f"documents {name} twice" for name in set(listed) if listed.count(name) > 1)
    around = sys.modules[item.value.__module__].__doc__ or ""
    for name in parameters:
        if name in listed:
            continue
        if whole or listed:
            yield f"does not document {name}"
        elif re.search(r"Array|Any", str(annotations[name])) and not re.search(
            rf"\b{name}(_\w+)?\b", item.docstring + around
        ):
            yield f"does not mention {name}"
    for entry in text.entries("Parameters"):
        bare = not shapes(f"{entry.kind} {entry.text}") and not re.match(r"As |Arguments ", entry.text)
        arrays = [name for name in entry.names if is_array(annotations.get(name))]
        if bare and arrays:
            yield f"does not give the shape of {', '.join(arrays)}"


def unexplained_fields(item: Item, text: Docstring) -> Iterator[str]:
    """Fields of a class, and what it is made from, that are not documented where they are nor in the class."""
    cls = item.value
    listed = {name.lstrip("*") for name in (*text.names("Parameters"), *text.names("Attributes"))}
    if dataclasses.is_dataclass(cls) or hasattr(cls, "_fields"):
        names = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else cls._fields
        own = {name for base in cls.__mro__ for name in documented_fields(base)}
        yield from (f"does not document {name}" for name in names if name not in listed | own)
        yield from (f"documents {name} twice" for name in names if name in listed & own)
    elif "__init__" in vars(cls) and not getattr(cls, "_is_protocol", False):
        yield from (f"does not document {name}" for name in inspect.signature(cls).parameters if name not in listed)


@cache
def documented_fields(cls: type) -> set[str]:
    """Fields with a text below them."""
    if not cls.__module__.startswith("ebmodel") and cls.__module__ != __name__:
        return set()
    body = ast.parse(dedent(inspect.getsource(cls))).body[0].body
    texts = [isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in body]
    named = [isinstance(node, ast.AnnAssign) for node in body]
    return {body[i].target.id for i in range(len(body) - 1) if named[i] and texts[i + 1]}


def faults(item: Item, *, whole: bool = True) -> list[str]:
    """What a docstring lacks; not ``whole`` is what the mathematics is asked for."""
    text = parse(item.docstring)
    found = [] if text.summary else ["no summary"]
    if item.kind == "constant":
        return found
    if item.kind == "class":
        return [*found, *unexplained_fields(item, text)]
    returned = item.function.__annotations__.get("return")
    gives = returned not in (None, "None")
    if item.kind != "property":
        found += unexplained(item, text, whole=whole)
        said = bool(text.entries("Returns") or text.entries("Yields"))
        if said and not gives:
            found.append("documents a result and gives none")
        if whole and gives and not said:
            found.append("does not document its result")
    if is_array(returned) and not shapes(item.docstring):
        found.append("does not give the shape of its result")
    lacking = own_errors(item.function) - set(text.names("Raises"))
    found += [f"does not document {error}" for error in sorted(lacking)]
    strange = [name for name in text.names("Raises") if not meant(name, item.page) and not hasattr(builtins, name)]
    return [*found, *(f"documents {name}, which is no exception" for name in strange)]


@pytest.mark.parametrize("page", PAGES)
def test_every_name_is_documented(page):
    whole = page in CALLED_PAGES
    found = {item.name: wrong for item in items(page) if (wrong := faults(item, whole=whole))}
    assert not found
    assert parse(PAGES[page].__doc__).summary


def test_no_class_in_a_signature_is_without_a_page():
    without = {}
    for page in PAGES:
        for item in items(page):
            annotations = {} if item.kind in ("class", "constant") else item.function.__annotations__
            for word in re.findall(r"[\w.]+", " ".join(map(str, annotations.values()))):
                for value in meant(word, item.function.__module__)[:1]:
                    if inspect.isclass(value) and value.__module__.startswith("ebmodel") and value not in CLASSES:
                        without[f"{page}.{item.name}"] = word
    assert not without


def test_entries_have_texts():
    empty = [
        f"{page}.{item.name}: {title}, {entry.names}"
        for page in PAGES
        for item in items(page)
        for title in ENTRIES
        for entry in parse(item.docstring).entries(title)
        if not entry.text
    ]
    assert not empty


def references(docstring: str) -> set[str]:
    """What stands in single backticks, outside examples."""
    prose = "\n".join(line for line in docstring.splitlines() if not line.lstrip().startswith((">>>", "...")))
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose))


def texts(page: str) -> Iterator[tuple[str, str, type | None]]:
    """A page's docstrings, the modules in which they are written, and the classes."""
    yield PAGES[page].__doc__ or "", page, None
    for item in items(page):
        where = home(PAGES[page], item.name).__name__ if item.kind == "constant" else item.function.__module__
        yield item.docstring, where, item.value if item.kind == "class" else item.owner


def test_what_is_referred_to_exists():
    """In single backticks stand names, as they are called in the package or in others."""
    stale = {
        (page, name)
        for page in PAGES
        for text, where, owner in texts(page)
        for name in references(text)
        if not meant(name, where, owner)
    }
    assert not stale


def test_tables_are_those_of_markdown():
    """pdoc shows others as running text."""
    assert not [page for page in PAGES for text, *_ in texts(page) if re.search(r"(?m)^\s*=+( +=+)+$", text)]


def test_the_first_page_names_everything():
    """What `ebmodel` has in it, and the modules with pages: no more and no less."""
    assert references(ebmodel.__doc__) == public("ebmodel").keys() | PAGES.keys() - {"ebmodel"}
    assert {name for name in ebmodel.__all__ if f"ebmodel.{name}" in CALLED_PAGES} | public("ebmodel").keys() == set(
        ebmodel.__all__
    )


# The checks above, checked --------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Told:
    """Told.

    Parameters
    ----------
    first
        In the class.
    """

    first: int
    second: int
    """Below."""


@dataclasses.dataclass
class Untold:
    """Untold."""

    first: int
    second: int
    """Below."""


def good(X: Array, scale: float, **rest: Any) -> Array:
    """Scale.

    Parameters
    ----------
    X : (sample, snp)
        Genotypes.
    scale
        A factor.
    **rest
        Nothing.

    Returns
    -------
    (sample, snp)
        X, scaled.

    Raises
    ------
    InputError
        If the scale is not positive.
    """
    expect(scale > 0.0, "a scale > 0", scale, "scale", "give one")
    return X * scale


def bad(X: Array, scale: float, other: float) -> Array:
    """Scale.

    Parameters
    ----------
    X
        Genotypes (of all samples).
    scale, factor
        A factor.

    Raises
    ------
    Mistake
        Never.
    """  # noqa: DOC102
    expect(scale > 0.0, "a scale > 0", scale, "scale", "give one")
    if other < 0.0:
        raise ValueError(other)

    def inner() -> None:
        raise KeyError

    inner()
    return X * scale


def gives_nothing(X: Array) -> None:
    """Look at X.

    Returns
    -------
    bool
        Nothing of the kind.
    """


def short(X: Array, scale: float) -> Array:
    """Scale X (sample, snp)."""
    return X * scale


def shorter(X: Array, scale: float) -> Array:
    """Scale it, equation (11)."""
    return X * scale


def partly(X: Array, scale: float) -> Array:
    """Scale X (sample, snp).

    Parameters
    ----------
    X : (sample, snp)
        Genotypes.
    """
    return X * scale


def silent() -> None:
    pass


def item_of(value: Any) -> Item:
    return Item("ebmodel", value.__name__, "class" if inspect.isclass(value) else "function", value)


def test_faults_are_found():
    assert faults(item_of(good)) == []
    assert sorted(faults(item_of(bad))) == sorted(
        [
            "documents factor, which is no parameter",
            "does not document other",
            "does not give the shape of X",
            "does not document its result",
            "does not give the shape of its result",
            "does not document InputError",
            "does not document ValueError",
            "documents Mistake, which is no exception",
        ]
    )
    assert faults(item_of(gives_nothing)) == ["does not document X", "documents a result and gives none"]
    assert faults(item_of(silent)) == ["no summary"]
    assert faults(item_of(short), whole=False) == []
    assert faults(item_of(partly), whole=False) == ["does not document scale"]
    assert faults(item_of(short)) == ["does not document X", "does not document scale", "does not document its result"]
    assert faults(item_of(shorter), whole=False) == ["does not mention X", "does not give the shape of its result"]


def test_faults_of_classes_are_found():
    assert faults(item_of(Told)) == []
    assert faults(item_of(Untold)) == ["does not document first"]
    assert faults(item_of(ebmodel.Params)) == []
    assert {item.name for item in members("ebmodel", ebmodel.Fit)} >= {"Fit.effects", "Fit.predict"}
    assert "Stored.to_netcdf" in {item.name for item in items("ebmodel.files")}


def test_shapes_are_told_from_other_brackets():
    assert shapes("x (snp,), y (tissue, snp), z () and w (effect or 1, rank of all, condition)") == [
        "snp,",
        "tissue, snp",
        "",
        "effect or 1, rank of all, condition",
    ]
    assert shapes("equations (5) and (11), (see there), log(x), (X'X), P(I(t)=1 | Y)") == []


# Equations and units --------------------------------------------------------------------------------------------------

EQUATIONS = {
    "ebmodel.fit": "Sections 2, 3 and 5",
    "ebmodel.oracle": "(8)",
    "ebmodel.standardise": "(equation 1)",
    "ebmodel.Params": "(1), (3) and (4)",
    "ebmodel.Params.tau0": "(4)",
    "ebmodel.Params.error_variance": "(E)",
    "ebmodel.Fit.log_bayes_factor": "(6)",
    "ebmodel.Fit.effects": "(5) and (11)",
    "ebmodel.Fit.ols": "(2) and (10)",
    "ebmodel.simulate.setting": "Section 6",
    "ebmodel.risk.bayes_risk": "Section 4",
    "ebmodel.risk.lower_bound": "(9)",
    "ebmodel.risk.empirical_bayes": "(5) and (11)",
    "ebmodel.likelihood.log_null": "(6)",
    "ebmodel.likelihood.log_slab": "(6)",
    "ebmodel.likelihood.log_bayes_factor": "(6)",
    "ebmodel.posterior.Posterior.mean": "(5), (11)",
    "ebmodel.em.expectation": "Proposition 1",
    "ebmodel.dense.log_bayes_factor": "(6)",
    "ebmodel.dense.posterior_probability": "(7)",
    "ebmodel.dense.moments": "(5) and (11)",
    "ebmodel.dense.em_step": "Section 3",
    "ebmodel.dense.error_variances": "(E)",
    "ebmodel.simulate.oracle.oracle": "(8)",
    "ebmodel.eqtl.indep_pairwise": "PLINK",
    "ebmodel.eqtl.select": "Section 7",
    "ebmodel.eqtl.stouffer": "the paper",
    "ebmodel.mash.fit": "Urbut et al.",
    "ebmodel.mash.pairwise_sharing": "Figure 6",
    "ebmodel.mash.number_shared": "Figure 5",
    "ebmodel.mash.simulation.scenario": "Urbut et al.",
}
"""What computes an equation of a paper, or a section's method, and how its text must cite it."""


@pytest.mark.parametrize(("name", "cited"), EQUATIONS.items())
def test_equations_are_cited(name, cited):
    assert cited in " ".join(find(name).docstring.split())


def find(name: str) -> Item:
    page = max((page for page in PAGES if name.startswith(f"{page}.")), key=len)
    return next(item for item in items(page) if f"{page}.{item.name}" == name)


UNITS = {
    "ebmodel.Params beta": "in units of Y per unit of X",
    "ebmodel.Params eta": "Units of Y squared",
    "ebmodel.Params sigma2": "in units of Y squared",
    "ebmodel.Params kappa": "in the units of ``eta``",
    "ebmodel.Fit.error_variance": "in units of Y squared",
    "ebmodel.Fit.effects": "in units of Y per unit of X",
    "ebmodel.Fit.effects_sd": "in its units",
    "ebmodel.Fit.effects_interval": "in the units of an effect",
    "ebmodel.Fit.ols": "in units of Y per unit of X",
    "ebmodel.Fit.predict": "In the units of Y",
    "ebmodel.mash.MashFit.sd": "in its units",
    "ebmodel.eqtl.open_results": "in the units of the expression per copy of the allele ``counted``",
    "ebmodel.eqtl.simulate_study density": "a Mb",
    "ebmodel.eqtl.indep_pairwise window": "In variants",
    "ebmodel.eqtl.variants.Variants.window first": "in bp",
}
"""Quantities with units: where they are documented, and how their texts must say it."""


@pytest.mark.parametrize(("where", "said"), UNITS.items())
def test_units_are_said(where, said):
    name, _, parameter = where.partition(" ")
    item = find(name)
    text = item.docstring
    if parameter:
        (text,) = [entry.text for entry in parse(text).entries("Parameters") if parameter in entry.names]
    assert said in " ".join(text.split())


# The pages ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """Ids, addresses, and what a page loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.text = path, path.read_text(encoding="utf-8")
        self.ids: set[str] = set()
        self.addresses: list[str] = []
        self.loads: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids |= {given["id"]} if given.get("id") else set()
        if tag == "a" and given.get("href"):
            self.addresses.append(given["href"])
        elif given.get("src") or given.get("href"):
            self.loads.append(given.get("src") or given["href"])


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """The reference, as the command writes it."""
    out = tmp_path_factory.mktemp("built") / "reference"
    assert reference.main(["--out", str(out)]) == 0
    return out


@pytest.fixture(scope="module")
def written(out):
    return {page: Page(out / f"{page.replace('.', '/')}.html") for page in PAGES}


def test_there_is_a_page_for_each_module_and_no_other(out, written):
    assert {page.path for page in written.values()} | {out / "index.html"} == set(out.rglob("*.html"))
    assert 'content="0; url=./ebmodel.html"' in (out / "index.html").read_text()


def test_every_name_has_its_place(written):
    lacking = {
        f"{page}.{name}"
        for page in PAGES
        for item in items(page)
        for name in {item.name, *(f"{item.name}.{field}" for field in fields(item))} - written[page].ids
    }
    assert not lacking


def fields(item: Item) -> list[str]:
    names = getattr(item.value, "__dataclass_fields__", ()) if item.kind == "class" else ()
    return [name for name in names if explained(item.value, name) is item.value]


def test_the_first_page_leads_to_everything(written):
    addresses = set(written["ebmodel"].addresses)
    assert {f"#{name}" for name in public("ebmodel")} <= addresses
    assert {f"{page.replace('.', '/')}.html" for page in PAGES if page != "ebmodel"} <= addresses


def test_addresses_lead_somewhere(written):
    by_path = {page.path.resolve(): page for page in written.values()}
    dead = []
    for page in written.values():
        for address in page.addresses:
            file, _, anchor = address.partition("#")
            target = by_path.get((page.path.parent / file).resolve() if file else page.path.resolve())
            if address != "https://pdoc.dev" and (target is None or (anchor and anchor not in target.ids)):
                dead.append((page.path.name, address))
    assert not dead


def test_nothing_is_loaded_from_elsewhere(written):
    assert {load for page in written.values() for load in page.loads if not load.startswith("data:")} == set()
    assert all("cdn" not in page.text for page in written.values())


def test_nothing_of_the_machine_is_shown(out):
    root = Path(ebmodel.__file__).parents[1]
    machine = {str(root), str(Path.home()), sys.prefix, tempfile.gettempdir(), str(Path.cwd())} - {"/"}
    for path in (*out.rglob("*.html"), out / "search.js"):
        text = path.read_text(encoding="utf-8")
        assert not [place for place in machine if place in text], path
        assert not re.search(r" at 0x[0-9a-f]{6}|0x7f", text), path
        assert "ForwardRef" not in text, path


def test_an_earlier_reference_is_removed_and_nothing_else(tmp_path, monkeypatch, capsys):
    pdoc = pytest.importorskip("pdoc")
    monkeypatch.setattr(pdoc, "pdoc", lambda *_, output_directory: output_directory.mkdir(exist_ok=True))
    (tmp_path / "notes.txt").write_text("mine")
    assert reference.main(["--out", str(tmp_path)]) == 2
    wanted = f"expected a new folder, or a reference, got something else, in {tmp_path}; do choose another name"
    assert capsys.readouterr().err == f"error: {wanted}\n"
    assert (tmp_path / "notes.txt").exists()
    assert reference.main(["--out", str(tmp_path / "no" / "folder")]) == 2
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    assert reference.build(earlier)[0] == earlier / "ebmodel.html"  # it was empty
    for name in ("index.html", "ebmodel.html", "search.js", "old.html"):
        (earlier / name).touch()
    reference.build(earlier)
    assert not (earlier / "old.html").exists()


def test_without_pdoc_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pdoc", None)
    message = "expected the package pdoc, got no such package, in the reference; do uv sync --group reference"
    with pytest.raises(InputError, match=re.escape(message)):
        reference.build(tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


# Its parts ------------------------------------------------------------------------------------------------------------

TEXT = """Do it, with `ebmodel.fit`, ``code``.

It goes on.

Parameters
----------
X, Y : (sample, snp), optional
    Data.
**rest
    Others.

Returns
-------
a, b
    Two.

A heading
---------
Text.
"""


def test_docstrings_are_taken_apart():
    text = parse(TEXT)
    assert text.summary == "Do it, with `ebmodel.fit`, ``code``."
    assert references(TEXT) == {"ebmodel.fit"}
    assert text.entries("Parameters")[0] == Entry(("X", "Y"), "(sample, snp), optional", "Data.")
    assert text.names("Parameters") == ("X", "Y", "**rest")
    assert text.names("Returns") == ("a, b",)
    assert text.names("Yields") == text.names("A heading") == ()
    assert parse(None) == Docstring("", {})


def test_names_are_found_as_python_finds_them():
    assert meant("fit", "ebmodel.results")[0] is ebmodel.fit
    assert meant("fit", "ebmodel.mash.data")[0] is ebmodel.mash.fit
    assert meant("effects", "ebmodel.results", ebmodel.Fit) == [ebmodel.Fit.effects]
    assert meant("Params.tau1", "ebmodel.em")
    assert meant("numpy.mean", "ebmodel.em")
    for name in ("nothing", "ebmodel.nothing", "Fit.nothing", "a < b"):
        assert not meant(name, "ebmodel.results")
