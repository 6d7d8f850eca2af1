"""Draws to and from files."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from ebmodel.errors import expect
from ebmodel.files import reading, write_dataset

__all__ = ["open_posterior", "save_posterior"]

KIND = "draws written by ebmodel"


def save_posterior(tree: xr.DataTree, path: str | Path) -> None:
    """Write draws whole or not at all: to a Zarr store if ``path`` ends in ``.zarr``, else to a NetCDF file.

    Parameters
    ----------
    tree
        As from `ebmodel.sample`. Variables of Python objects, such as warnings that a sampler kept, are left out.
    path
        `open_posterior` reads it back.

    Raises
    ------
    InputError
        If ``path`` cannot be written.
    """
    tree = xr.DataTree.from_dict(
        {path: _plain(node.to_dataset(inherit=False)) for path, node in tree.subtree_with_keys}
    )
    write_dataset(path, tree)


def open_posterior(path: str | Path) -> xr.DataTree:
    """Read draws that `save_posterior`, ``ebmodel sample`` or ``ebmodel compare`` wrote.

    Parameters
    ----------
    path
        Of the file, or of the store.

    Returns
    -------
    DataTree
        As from `ebmodel.sample`.

    Raises
    ------
    InputError
        If the path is missing or holds something else.
    """
    with reading(path, KIND, "sample again") as settings, xr.open_datatree(path, **settings) as source:
        tree = source.load()
    expect("posterior" in tree.children, KIND, "another file", str(path), "check the path")
    return tree


def _plain(dataset: xr.Dataset) -> xr.Dataset:
    """Without variables that are neither numbers nor text."""
    odd = [name for name, v in dataset.data_vars.items() if v.dtype == object and not _text(v)]
    return dataset.drop_vars(odd)


def _text(variable: xr.DataArray) -> bool:
    return all(isinstance(value, str) for value in variable.to_numpy().flat)
