"""Bytes of a simulated study: genotypes four to a byte, numbers as text, text as blocked gzip.

Blocked gzip (BGZF) is what genetics compresses with: a gzip file of many members, each of at most 64 KiB, which tabix
can index. It holds no name and no time: the same text is the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ebmodel.kernel import kernel
from ebmodel.model import Array

__all__ = ["BED_MARK", "END", "MISSING", "bgzf", "decimals", "pack", "unpack"]

MISSING = -9
"""A missing allele count."""

BED_MARK = bytes((0x6C, 0x1B, 0x01))
"""What a PLINK .bed file of variants in rows begins with."""

# PLINK: 0 is two copies of the .bim file's first allele, 1 a missing genotype, 2 one copy, 3 none
CODE = np.zeros(256, dtype=np.uint8)
CODE[[0, 1, 2, MISSING % 256]] = 3, 2, 0, 1
COUNT = np.array([2, MISSING, 1, 0], dtype=np.int8)
FOUR = COUNT[(np.arange(256)[:, None] >> np.array([0, 2, 4, 6])) & 3]
"""(byte, place) the four allele counts in a byte."""

PLACES = 4
"""Decimal places of expression values."""
WIDEST = 16
"""Characters of the widest number, with the tabulator before it."""

END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends a BGZF file."""
LARGEST = 65_280


def pack(counts: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack allele counts as in a .bed file: (variant, sample) in 0, 1, 2, `MISSING` to (variant, byte)."""
    rows, samples = counts.shape
    code = np.zeros((rows, -(-samples // 4) * 4), dtype=np.uint8)  # what fills up the last byte is 0
    code[:, :samples] = CODE[counts.view(np.uint8)]
    code = code.reshape(rows, -(-samples // 4), 4)
    return np.asarray(code[..., 0] | code[..., 1] << 2 | code[..., 2] << 4 | code[..., 3] << 6)


def unpack(packed: NDArray[np.uint8], samples: int) -> NDArray[np.int8]:
    """Undo `pack`."""
    return np.ascontiguousarray(FOUR[packed].reshape(len(packed), 4 * packed.shape[1])[:, :samples])


def decimals(values: Array) -> list[bytes]:
    """Write numbers with four decimal places and a tabulator before each, a line a row, without its end.

    Parameters
    ----------
    values : (row, column)
        Finite, and below 10^8 in size.
    """
    scaled = np.rint(values * 10**PLACES).astype(np.int64)
    text = np.empty(scaled.size * WIDEST, dtype=np.uint8)
    ends = np.empty(len(scaled), dtype=np.int64)
    _decimals(scaled, text, ends)
    whole, starts = text[: ends[-1]].tobytes(), np.append(0, ends[:-1])
    return [whole[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]


@kernel
def _decimals(scaled: Any, text: Any, ends: Any) -> None:
    at = 0
    digits = np.empty(WIDEST, dtype=np.uint8)
    for i in range(scaled.shape[0]):
        for j in range(scaled.shape[1]):
            number = scaled[i, j]
            text[at] = 9  # tabulator
            at += 1
            if number < 0:
                text[at] = 45  # minus
                at += 1
                number = -number
            size = 0
            while number > 0 or size <= PLACES:  # the last digit first, and one before the point
                digits[size] = 48 + number % 10
                number //= 10
                size += 1
            for k in range(size - 1, -1, -1):
                if k == PLACES - 1:
                    text[at] = 46  # point
                    at += 1
                text[at] = digits[k]
                at += 1
        ends[i] = at


def bgzf(text: bytes, *, repeats: bool = True) -> bytes:
    """Compress as blocked gzip, without the `END` of a file: pieces may follow each other.

    Parameters
    ----------
    text
        What to compress.
    repeats
        Whether to look for repeated text. Random digits have none: without, they are as small and done twice as fast.
    """
    strategy = zlib.Z_DEFAULT_STRATEGY if repeats else zlib.Z_HUFFMAN_ONLY
    return b"".join(_block(text[a : a + LARGEST], strategy) for a in range(0, len(text), LARGEST))


def _block(text: bytes, strategy: int) -> bytes:
    deflate = zlib.compressobj(1, zlib.DEFLATED, -15, 9, strategy)
    data = deflate.compress(text) + deflate.flush()
    # gzip with an extra field "BC", two bytes long: the size of the block less one
    head = struct.pack("<4BI2BH2s2H", 0x1F, 0x8B, 8, 4, 0, 0, 0xFF, 6, b"BC", 2, len(data) + 25)
    return head + data + struct.pack("<2I", zlib.crc32(text), len(text))
