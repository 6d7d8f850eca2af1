"""One error style: what was expected, what came, where, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["InputError", "expect", "listed"]


class InputError(ValueError):
    """Input that cannot be used, described in one line: ``expected ..., got ..., in ...; do ...``.

    Parameters
    ----------
    expected
        What would have been right.
    got
        What came.
    where
        In which file, argument, tissue or SNP.
    do
        The remedy.
    """

    def __init__(self, expected: str, got: str, where: str, do: str) -> None:
        super().__init__(f"expected {expected}, got {got}, in {where}; do {do}")
        self.parts = expected, got, where, do

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str]]:
        """Let it travel from a worker's process."""
        return type(self), self.parts

    def within(self, where: str) -> InputError:
        """Say the same of a larger place.

        Parameters
        ----------
        where
            The larger place, such as a file, within which the error happened.

        Returns
        -------
        InputError
            A new one; the caller raises it.
        """
        expected, got, here, do = self.parts
        return type(self)(expected, got, f"{where}, {here}", do)


def expect(holds: bool, expected: str, got: object, where: str, do: str) -> None:
    """Raise `InputError` unless ``holds``."""
    if not holds:
        raise InputError(expected, str(got), where, do)


def listed(names: Iterable[object], most: int = 5) -> str:
    """Join the first few names for an error: ``'a', 'b' and 7 more``."""
    every = [repr(str(name)) for name in names]
    shown = ", ".join(every[:most])
    return shown if len(every) <= most else f"{shown} and {len(every) - most} more"
