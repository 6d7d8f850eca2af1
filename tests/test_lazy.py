"""Names come when they are asked for, and are listed before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import ebmodel
from ebmodel import eqtl


def test_names_are_listed_and_found():
    for package in (ebmodel, eqtl):
        assert package.__all__ == sorted(package.__all__)
        assert set(package.__all__) <= set(dir(package))
        for name in package.__all__:
            assert getattr(package, name) is not None


def test_names_that_are_not_there_are_refused():
    with pytest.raises(AttributeError, match=r"module 'ebmodel\.eqtl' has no attribute 'nothing'"):
        _ = eqtl.nothing


def test_nothing_heavy_is_imported_before_it_is_needed():
    heavy = "{'numpy', 'pymc', 'xarray', 'numba'}"
    code = f"import sys, ebmodel, ebmodel.eqtl; sys.exit(bool({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
