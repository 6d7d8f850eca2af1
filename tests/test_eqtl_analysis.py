"""What donors that tissues share make of Stouffer's Z, as a run reports it by gene."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ebmodel.eqtl.analysis import _correlation


@pytest.mark.parametrize(("first", "variance"), [(0, 2.0), (50, 1.5), (100, 1.0)])
def test_shared_donors_with_the_same_errors_raise_the_variance(first: int, variance: float) -> None:
    """1'R1/m of two tissues whose donors overlap wholly, by half, or not at all, errors alike where they do."""
    error = np.where(np.arange(200) % 2, 1.0, -1.0)
    donors = [np.arange(100), np.arange(first, first + 100)]
    study = SimpleNamespace(rows=np.arange(200), tissues=[SimpleNamespace(donors=one) for one in donors])
    R = _correlation(study, [error[one] for one in donors], np.array([0, 1]))
    assert R.sum() / 2 == pytest.approx(variance)
    assert np.diag(R) == pytest.approx(1.0)
