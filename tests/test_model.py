"""`Params` refuses what is out of range, in one line; the notation table names what the code has."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import xarray as xr

from ebmodel import InputError, Params, model

GOOD = {"tau1": 0.5, "beta": [1.0, -2.0], "eta": 0.2, "sigma2": 1.5}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tau1": -0.1}, "expected 0 <= tau1 <= 1, got -0.1, in tau1; do give a probability"),
        ({"tau1": 1.1}, "expected 0 <= tau1 <= 1, got 1.1, in tau1"),
        ({"tau1": np.nan}, "expected 0 <= tau1 <= 1, got nan, in tau1"),
        ({"eta": -1e-9}, "expected a finite number >= 0, got -1e-09, in eta; do give a variance"),
        ({"eta": np.inf}, "expected a finite number >= 0, got inf, in eta"),
        ({"eta": np.nan}, "expected a finite number >= 0, got nan, in eta"),
        ({"sigma2": 0.0}, "expected a finite number > 0, got 0.0, in sigma2; do give a variance"),
        ({"sigma2": np.inf}, "expected a finite number > 0, got inf, in sigma2"),
        ({"sigma2": np.nan}, "expected a finite number > 0, got nan, in sigma2"),
        ({"beta": [1.0, np.nan]}, "expected one finite number a SNP, got [1.0, nan], in beta"),
        ({"beta": 1.0}, "expected one finite number a SNP, got 1.0, in beta; do give a vector of effects"),
        ({"beta": [[1.0]]}, "expected one finite number a SNP, got [[1.0]], in beta"),
        ({"slab": "ridge"}, "expected 'g', 'independent', a number or a (snp, snp) matrix, got 'ridge', in slab"),
        ({"slab": np.inf}, "expected a finite power, got inf, in slab"),
    ],
)
def test_values_out_of_range(change, message):
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        Params(**{**GOOD, **change})
    assert "\n" not in str(caught.value)


def test_edges_are_allowed():
    for change in ({"tau1": 0.0}, {"tau1": 1.0}, {"eta": 0.0}, {"beta": np.zeros(0)}):
        theta = Params(**{**GOOD, **change})
        name, value = next(iter(change.items()))
        np.testing.assert_array_equal(getattr(theta, name), value)


def test_input_error_is_a_value_error():
    assert issubclass(InputError, ValueError)


def test_params_are_frozen_and_named():
    theta = Params(**GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        theta.eta = 1.0
    with pytest.raises(TypeError):
        Params(0.5, [1.0], 0.2, 1.0)


def test_derived_values():
    theta = Params(**{**GOOD, "tau1": 0.3})
    assert theta.tau0 == pytest.approx(0.7, rel=1e-15)
    assert theta.beta.dtype == float


def test_beta_keeps_its_labels():
    beta = xr.DataArray([1.0, 2.0], dims="snp", coords={"snp": ["rs1", "rs2"]})
    assert Params(**{**GOOD, "beta": beta}).beta.snp.to_numpy().tolist() == ["rs1", "rs2"]


@pytest.mark.parametrize(
    ("slab", "alpha"), [("g", 1.0), ("independent", 0.0), (-1, -1.0), (0.5, 0.5), (np.float64(2.0), 2.0)]
)
def test_power_of_a_slab(slab, alpha):
    assert Params(**GOOD, slab=slab).alpha == alpha


def test_a_matrix_has_no_power():
    assert np.isnan(Params(**GOOD, slab=np.eye(2)).alpha)


def table(head):
    """Cells of the rows of the docstring's table whose header starts with ``head``."""
    block = next(block for block in model.__doc__.split("\n\n") if f"| {head} " in block)
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_notation_table_names_the_fields():
    rows = table("Symbol")
    names = [row[1] for row in rows]
    fields = {field.name for field in dataclasses.fields(Params)}
    assert fields <= set(names)
    theta = Params(**GOOD)
    for name in names:
        assert hasattr(theta, name)
    assert all(all(row) for row in rows)


def test_notation_table_states_shapes_and_constraints():
    theta = Params(**GOOD, relative_variance=[1.0, 2.0])
    for _, name, shape, constraint, _ in table("Symbol"):
        if name != "slab":
            assert np.ndim(getattr(theta, name)) == (0 if shape == "()" else shape.count(",")), name
        bounds = re.fullmatch(rf"(?:(\S+) (<=?) )?{name}(?: (<=?|>=?) (\S+))?", constraint)
        if bounds is None:
            assert constraint in ("real", "positive definite")
            continue
        below = bounds[1] or (bounds[4] if ">" in bounds[3] else None)
        value = float(below) - 1e-9
        with pytest.raises(InputError, match=f"in {name}"):
            Params(**{**GOOD, name: [1.0, value] if shape == "(tissue,)" else value})


def test_slab_table_names_what_params_take():
    words = [word for row in table("``slab``") for word in re.findall('``"(.*?)"``', row[0])]
    assert words == ["g", "independent"]
    for word in words:
        assert np.isfinite(Params(**GOOD, slab=word).alpha)
