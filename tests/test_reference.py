"""The reference has every public name, and every public name says what it takes, gives and raises."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import redirect_stdout
from functools import cache
from html import unescape
from html.parser import HTMLParser
from importlib import import_module
from io import StringIO
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import ebmodel
from ebmodel import labels, model
from ebmodel.errors import InputError, expect
from ebmodel.model import Array
from ebmodel.reference import Symbol, build, notation
from ebmodel.reference.__main__ import main
from ebmodel.reference.building import make_room
from ebmodel.reference.contents import CALLED, FIRST, QUESTIONS, pages
from ebmodel.reference.docstrings import Docstring, Entry, parse
from ebmodel.reference.markup import render
from ebmodel.reference.names import Names, constant_docstring, home, public, unwrapped
from ebmodel.reference.tables import read_table

NAMES = Names(pages())


# What is documented ---------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """A public name, or a member of a public class."""

    page: str
    name: str
    kind: str
    """class, function, method, property or constant."""
    value: Any
    owner: type | None = None

    @property
    def docstring(self) -> str:
        if self.kind == "constant":
            return constant_docstring(home(NAMES.pages[self.page], self.name), self.name)
        generated = self.kind == "class" and (self.value.__doc__ or "").startswith(f"{self.value.__name__}(")
        return "" if generated else self.value.__doc__ or ""

    @property
    def function(self) -> Any:
        return self.value.fget if self.kind == "property" else self.value


def items(page: str) -> Iterator[Item]:
    for name, value in public(NAMES.pages[page]).items():
        value = unwrapped(value)
        if isinstance(value, ModuleType):
            continue
        if inspect.isclass(value):
            yield Item(page, name, "class", value)
            yield from members(page, value)
        else:
            yield Item(page, name, "function" if inspect.isfunction(value) else "constant", value)


def members(page: str, cls: type) -> Iterator[Item]:
    """Methods and properties, those of classes of the package without a page of their own too."""
    seen = set()
    for base in cls.__mro__:
        for name, raw in vars(base).items():
            if name.startswith("_") or name in seen or not base.__module__.startswith("ebmodel"):
                continue
            seen.add(name)
            if NAMES.explained(cls, name) is not cls:
                continue
            value = unwrapped(raw.__func__ if isinstance(raw, classmethod | staticmethod) else raw)
            if hasattr(raw, "func") and hasattr(raw, "attrname"):  # a cached_property
                value = property(unwrapped(raw.func))
            kind = "property" if isinstance(value, property) else "method" if inspect.isfunction(value) else ""
            if kind:
                yield Item(page, f"{cls.__name__}.{name}", kind, value, cls)


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
    strange = [name for name in text.names("Raises") if NAMES.resolve(name, item.page) is None and not builtin(name)]
    return [*found, *(f"documents {name}, which is no exception" for name in strange)]


def builtin(name: str) -> bool:
    return isinstance(getattr(__import__("builtins"), name, None), type)


CALLED_PAGES = [name for group in CALLED for name in group.names]


@pytest.mark.parametrize("page", pages())
def test_every_name_is_documented(page):
    whole = page in CALLED_PAGES
    found = {item.name: wrong for item in items(page) if (wrong := faults(item, whole=whole))}
    assert not found
    assert parse(NAMES.pages[page].__doc__).summary


def test_no_class_in_a_signature_is_without_a_page():
    without = {}
    for page in pages():
        for item in items(page):
            annotations = {} if item.kind in ("class", "constant") else item.function.__annotations__
            for word in re.findall(r"[\w.]+", " ".join(map(str, annotations.values()))):
                value, place = NAMES.resolve(word, item.function.__module__) or (None, None)
                if inspect.isclass(value) and value.__module__.startswith("ebmodel") and place is None:
                    without[f"{page}.{item.name}"] = word
    assert not without


def test_entries_have_texts_and_constants_their_own():
    empty = [
        f"{page}.{item.name}: {section.title}, {entry.names}"
        for page in pages()
        for item in items(page)
        for section in parse(item.docstring).sections
        for entry in section.entries
        if not entry.text
    ]
    assert not empty


def references(docstring: str) -> set[str]:
    """What stands in single backticks, outside formulas and examples."""
    prose = "\n".join(line for line in docstring.splitlines() if not line.lstrip().startswith((">>>", "...")))
    return set(re.findall(r"(?<!`)`([^`\n]+)`(?!`)", prose))


@pytest.mark.parametrize("page", pages())
def test_what_is_referred_to_exists(page):
    """In single backticks stand names, as they are called in the package or in others."""
    texts = [(NAMES.pages[page].__doc__, page, None)]
    for item in items(page):
        where = home(NAMES.pages[page], item.name).__name__ if item.kind == "constant" else item.function.__module__
        texts.append((item.docstring, where, item.value if item.kind == "class" else item.owner))
    stale = {
        name
        for text, where, owner in texts
        for name in references(text)
        if NAMES.resolve(name, where, owner) is None and not importable(name)
    }
    assert not stale


def importable(name: str) -> bool:
    package, _, rest = name.rpartition(".")
    return bool(package) and hasattr(import_module(package), rest)


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
    """
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
    assert {item.name for item in members("ebmodel", ebmodel.Fit)} >= {"Fit.effects", "Fit.predict", "Fit.to_netcdf"}


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
    page = max((page for page in pages() if name.startswith(f"{page}.")), key=len)
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
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.loads: list[str] = []
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        if tag == "a" and given.get("href"):
            self.addresses.append(given["href"])
        elif given.get("src") or given.get("href"):
            self.loads.append(given.get("src") or given["href"])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The reference, as the command writes it: start page first."""
    out = tmp_path_factory.mktemp("built") / "reference"
    said = StringIO()
    with redirect_stdout(said):
        assert main(["--out", str(out)]) == 0
    assert said.getvalue() == f"{len(pages()) + 1} pages; start at {out / 'index.html'}\n"
    paths = [out / "index.html", *(out / f"{page.replace('.', '/')}.html" for page in pages())]
    assert set(paths) | {out / "search.js"} == {path for path in out.rglob("*") if path.is_file()}
    return [Page(path) for path in paths]


@pytest.fixture(scope="module")
def by_module(written):
    return dict(zip(pages(), written[1:], strict=True))


@pytest.mark.parametrize("page", pages())
def test_every_name_has_its_place(page, by_module):
    ids = by_module[page].ids
    assert len(ids) == len(set(ids))
    names = {item.name for item in items(page)}
    fields = {
        f"{item.name}.{field.name}"
        for item in items(page)
        if item.kind == "class" and dataclasses.is_dataclass(item.value)
        for field in dataclasses.fields(item.value)
        if NAMES.explained(item.value, field.name) is item.value
    }
    assert names | fields <= set(ids)
    shown = {name for name in ids if re.fullmatch(r"\w+(\.\w+)*", name)}
    assert {name for name in shown if "._" in name} <= {f"{name}.__init__" for name in names}


def test_all_public_names_are_there(by_module):
    assert set(public(ebmodel)) == {name for name in public(ebmodel) if name in by_module["ebmodel"].ids} | {
        name for name, value in public(ebmodel).items() if isinstance(value, ModuleType)
    }
    modules = {f"ebmodel.{name}" for name, value in public(ebmodel).items() if isinstance(value, ModuleType)}
    assert modules <= set(CALLED_PAGES)


def test_addresses_lead_somewhere(written):
    pages_by_path = {page.path.resolve(): page for page in written}
    dead = []
    for page in written:
        for address in page.addresses:
            if address == "https://pdoc.dev":
                continue
            file, _, anchor = address.partition("#")
            target = pages_by_path.get((page.path.parent / file).resolve() if file else page.path.resolve())
            if target is None or (anchor and anchor not in target.ids):
                dead.append((page.path.name, address))
    assert not dead


def test_nothing_is_loaded_from_elsewhere(written):
    assert {load for page in written for load in page.loads if not load.startswith("data:")} == set()
    assert all("cdn" not in page.text for page in written)


def test_nothing_of_the_machine_is_shown(written):
    root = Path(ebmodel.__file__).parents[1]
    machine = {str(root), str(Path.home()), sys.prefix, tempfile.gettempdir(), str(Path.cwd())} - {"/"}
    for path in (*(page.path for page in written), written[0].path.parent / "search.js"):
        text = path.read_text(encoding="utf-8")
        assert not [place for place in machine if place in text], path
        assert not re.search(r" at 0x[0-9a-f]{6}", text), path


def test_the_start_page_orders_everything(written):
    start = written[0]
    assert start.path.name == "index.html"
    assert all(set(names) <= set(public(NAMES.pages[page])) for page, names in FIRST.items())
    named = [name for group in QUESTIONS for name in group.names]
    assert len(named) == len(set(named))
    assert set(named) == {name for name, value in public(ebmodel).items() if not isinstance(value, ModuleType)}
    assert {f"ebmodel.html#{name}" for name in named} <= set(start.addresses)
    assert {page.path.relative_to(start.path.parent).as_posix() for page in written[1:]} <= set(start.addresses)
    for row in notation():
        cells = [row.symbol, f"<code>{row.in_code}</code>", row.shape, row.constraint, row.equation]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in start.text.replace("&gt;", ">").replace(
            "&lt;", "<"
        ).replace("&#39;", "'")


def test_names_can_be_searched(written):
    index = (written[0].path.parent / "search.js").read_text(encoding="utf-8")
    for page in CALLED_PAGES:
        lacking = [item.name for item in items(page) if f'"{page}.{item.name}"' not in index]
        fields = [name for name in lacking if "." not in name]
        assert not fields, page


def test_signatures_are_those_of_the_source(by_module):
    text = re.sub(r"<[^>]*>", "", unescape(by_module["ebmodel"].text))
    assert "slab: Slab = 'g'," in text
    assert "tol: float = 1e-09," in text
    assert ") -> Fit:" in text
    assert "beta_covariance: xr.DataArray" in text
    scan = re.sub(r"<[^>]*>", "", unescape(by_module["ebmodel.eqtl.scan"].text))
    assert "fold: NDArray[np.int64]," in scan
    bayes = re.sub(r"<[^>]*>", "", unescape(by_module["ebmodel.bayes"].text))
    assert "heterogeneity: Prior = ...," in bayes  # not what it happens to look like
    assert "numpy.ndarray[tuple" not in "".join(page.text for page in by_module.values())


def test_formulas_are_shown_as_they_stand(by_module):
    text = unescape(by_module["ebmodel.model"].text)
    (pre,) = re.findall(r'<pre class="formula">(Y\(t\).*?)</pre>', text, re.DOTALL)
    written_so = model.__doc__.partition("For tissue t = 1, ..., m\n\n")[2].partition("\n\n")[0]
    assert pre == dedent(written_so)
    assert all(line.endswith(f"({k})") for k, line in enumerate(pre.splitlines(), 1))
    assert "<th>Constraint</th>" in text
    assert "=====" not in re.sub(r'<div class="pdoc-code.*?</div>', "", text, flags=re.DOTALL)


def test_an_earlier_reference_is_removed_and_nothing_else(tmp_path, written, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new folder, or a reference, got something else, in "):
        build(tmp_path)
    assert (tmp_path / "notes.txt").exists()
    assert main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: expected a new folder")
    assert main(["--out", str(tmp_path / "no" / "folder")]) == 2
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    make_room(earlier)
    assert earlier.is_dir()  # it was empty
    (earlier / "index.html").write_text(written[0].text, encoding="utf-8")
    (earlier / "old.html").write_text("left over")
    make_room(earlier)
    assert not earlier.exists()


def test_without_pdoc_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pdoc", None)
    message = "expected the package pdoc, got no such package, in the reference; do uv sync --group reference"
    with pytest.raises(InputError, match=re.escape(message)):
        build(tmp_path / "reference")
    assert not (tmp_path / "reference").exists()


# Its parts ------------------------------------------------------------------------------------------------------------

TEXT = """Do it, with `ebmodel.fit`, ``code`` & *care*; not a*b* or x * y.

It goes on.

    y = x'b < 1,        z      (1)

    more

=====  ==============
name   what
=====  ==============
`fit`  it
       goes on
``b``  other
=====  ==============

- one
  line
- two

>>> 1 < 2
True

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

Raises
------
InputError
    If it must.

A heading
---------
Text.
"""


def test_docstrings_are_taken_apart():
    text = parse(TEXT)
    assert text.summary.startswith("Do it, with")
    assert text.text.startswith("It goes on.")
    assert [section.title for section in text.sections] == ["Parameters", "Returns", "Raises", "A heading"]
    assert text.entries("Parameters")[0] == Entry(("X", "Y"), "(sample, snp), optional", "Data.")
    assert text.names("Parameters") == ("X", "Y", "**rest")
    assert text.names("Returns") == ("a, b",)
    assert text.names("Yields") == ()
    assert text.sections[-1].text == "Text."
    assert parse(None) == Docstring("", "", ())


def test_docstrings_are_rendered():
    html = render(parse(TEXT), {"ebmodel.fit": "#fit"}.get, {"X": "Class.X"})
    assert "\n" not in html
    for piece in (
        '<a href="#fit"><code>ebmodel.fit</code></a>, <code>code</code> &amp; <em>care</em>; not a*b* or x * y.',
        '<pre class="formula">y = x\'b &lt; 1,        z      (1)&#10;&#10;more</pre>',
        "<thead><tr><th>name</th><th>what</th></tr></thead>",
        "<tr><td><code>fit</code></td><td>it goes on</td></tr><tr><td><code>b</code></td><td>other</td></tr>",
        "<ul><li>one line</li><li>two</li></ul>",
        '<pre class="example">&gt;&gt;&gt; 1 &lt; 2&#10;True</pre>',
        '<dt><code id="Class.X">X</code>, <code>Y</code> <span class="kind">(sample, snp), optional</span></dt>',
        "<h6>A heading</h6><p>Text.</p>",
    ):
        assert piece in html, piece


def test_names_are_found_as_python_finds_them():
    places = {
        ("ebmodel.fit", "ebmodel.mash.data", None): "../../ebmodel.html#fit",
        ("fit", "ebmodel.fitting", None): "../../ebmodel.html#fit",
        ("Fit.effects", "ebmodel.results", None): "../../ebmodel.html#Fit.effects",
        ("effects", "ebmodel.results", ebmodel.Fit): "../../ebmodel.html#Fit.effects",
        ("fit", "ebmodel.mash.fitting", None): "../../ebmodel/mash.html#fit",
        ("ebmodel.starts", "ebmodel.fitting", None): "../../ebmodel/starts.html",
        ("scan", "ebmodel.eqtl", None): "../../ebmodel/eqtl/scan.html",
        ("em.State", "ebmodel.search", None): "../../ebmodel/em.html#State",
        ("KNOWN", "ebmodel.mean", None): "../../ebmodel/likelihood.html#KNOWN",
        ("Params.tau1", "ebmodel.em", None): "../../ebmodel.html#Params.tau1",
        ("InputError", "ebmodel.bayes.models", None): "../../ebmodel.html#InputError",
        ("Oracle.effects", "ebmodel.simulate.oracle", None): "../../ebmodel.html#Fit.effects",
        ("Oracle.whitened", "ebmodel.simulate.oracle", None): "../../ebmodel/simulate/oracle.html#Oracle.whitened",
        ("Fit.to_zarr", "ebmodel.results", None): "../../ebmodel.html#Fit.to_zarr",
    }
    for (name, module, owner), address in places.items():
        assert NAMES.find(name, module, owner).address("ebmodel.mash.likelihood") == address
    for name in ("nothing", "ebmodel.nothing", "Fit.nothing", "a < b", "np"):
        assert NAMES.find(name, "ebmodel.results") is None
    assert NAMES.find("fit", "ebmodel.fitting").address("ebmodel") == "#fit"


def test_notation_is_the_table_of_the_model():
    rows = notation()
    assert rows[0] == Symbol("tau1", "tau1", "()", "0 <= tau1 <= 1", "(4): share of active tissues")
    lines = model.__doc__.partition("--------\n")[2].splitlines()
    assert read_table(lines) == (["Symbol", "In code", "Shape", "Constraint", "Equation"], [list(row) for row in rows])
    assert read_table(["== ==", "a  b", "== =="]) == ([], [["a", "b"]])
