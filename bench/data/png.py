"""PNG files whose bytes depend on the pixels alone.

A PNG holds a zlib stream, and two builds of zlib may compress the same pixels to different bytes. Generated files are
compared by their hash, so their compression is done here: runs of one byte become matches at distance 1, the rest are
literals, and one dynamic Huffman code serves the whole image (RFC 1951, section 3.2.7). For microscope images with
noise this loses little against zlib; any PNG reader takes the result.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_COLOUR_TYPE = {1: 0, 3: 2}
"""Number of channels -> colour type of the PNG header."""
_FILTER_UP, _FILTER_AVERAGE = 2, 3
_END_OF_BLOCK = 256
_SYMBOLS = 286
_SHORTEST_MATCH, _LONGEST_MATCH = 3, 258
_LONGEST_HEADER = 4096
"""More bits than the header of a block takes: 17, 3 for each of 19 code lengths, at most 7 for each of 287 lengths."""
_AT_ONCE = 1 << 14
"""Symbols that are written at once: few enough to stay in a processor's cache."""

# RFC 1951, section 3.2.5: the match lengths at which the codes 257 to 285 begin, and their extra bits.
_LENGTH_BASE = np.array([*range(3, 11), *range(11, 19, 2), *range(19, 35, 4), *range(35, 67, 8), *range(67, 131, 16),
                         *range(131, 258, 32), 258])  # fmt: skip
_LENGTH_EXTRA = np.array([0] * 8 + [1] * 4 + [2] * 4 + [3] * 4 + [4] * 4 + [5] * 4 + [0])
# Section 3.2.7: the order in which the lengths of the code length codes are written.
_CODE_LENGTH_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


def encode(array: NDArray[Any]) -> bytes:
    """A PNG file, gray or in colour.

    Args:
        array: (H, W) or (H, W, 3), uint8 or uint16.
    """
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    rows = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    raw = _filtered(rows, array.dtype.itemsize * channels)
    header = struct.pack(">IIBBBBB", width, height, 8 * array.dtype.itemsize, _COLOUR_TYPE[channels], 0, 0, 0)
    stream = b"\x78\x01" + deflate(raw) + struct.pack(">I", zlib.adler32(raw.data))
    return b"".join((b"\x89PNG\r\n\x1a\n", _chunk(b"IHDR", header), _chunk(b"IDAT", stream), _chunk(b"IEND", b"")))


def deflate(raw: NDArray[np.uint8]) -> bytes:
    """A raw deflate stream of one block.

    Args:
        raw: (N,) bytes, N > 0.
    """
    symbols, extra_bits, extra = _tokens(raw)
    counts = np.bincount(symbols, minlength=_SYMBOLS)
    counts[_END_OF_BLOCK] = 1
    lengths = _code_lengths(counts, 15)
    codes = _codes(lengths)
    bits = int(np.dot(counts, lengths)) + int(extra_bits.sum()) + int(np.count_nonzero(symbols > _END_OF_BLOCK))
    stream = _Stream(bits + _LONGEST_HEADER)
    stream.add(*_block_header(lengths))
    for start in range(0, len(symbols), _AT_ONCE):
        its = slice(start, start + _AT_ONCE)
        values, sizes = codes.take(symbols[its]), lengths.take(symbols[its])
        # After a length come its extra bits and the one code of distance 1, which is a single 0 bit.
        match = np.flatnonzero(symbols[its] > _END_OF_BLOCK)
        values[match] |= extra[its][match].astype(np.int64) << sizes[match]
        sizes[match] += extra_bits[its][match] + 1
        stream.add(values, sizes)
    stream.add(codes[[_END_OF_BLOCK]], lengths[[_END_OF_BLOCK]])
    return stream.content()


def _filtered(rows: NDArray[np.uint8], pixel: int) -> NDArray[np.uint8]:
    """Rows with their filter byte, flat: all by "up" or all by "average", whichever leaves less in every eighth row."""
    above = np.zeros_like(rows)
    above[1:] = rows[:-1]
    left = np.zeros_like(rows)
    left[:, pixel:] = rows[:, :-pixel]
    average = ((above.astype(np.uint16) + left) >> 1).astype(np.uint8)
    candidates = [(_FILTER_UP, rows - above), (_FILTER_AVERAGE, rows - average)]
    kind, best = min(candidates, key=lambda c: int(np.abs(c[1][::8].view(np.int8).astype(np.int16)).sum()))
    out = np.empty((rows.shape[0], rows.shape[1] + 1), np.uint8)
    out[:, 0], out[:, 1:] = kind, best
    return out.reshape(-1)


def _tokens(raw: NDArray[np.uint8]) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]:
    """Literals and matches as symbols of the literal/length alphabet, with the number of extra bits and these."""
    starts = np.concatenate(([0], np.flatnonzero(raw[1:] != raw[:-1]) + 1))
    runs = np.diff(starts, append=len(raw))
    is_long = runs > _SHORTEST_MATCH
    # A long run: its first byte, then longest matches, then the rest as one match or, if short, literals.
    first, repeats = starts[is_long], runs[is_long] - 1
    full, rest = repeats // _LONGEST_MATCH, repeats % _LONGEST_MATCH
    begins = ~np.repeat(is_long, runs)  # where a token begins: at every byte outside long runs
    begins[first] = True
    match = np.zeros(len(raw), np.int16)
    run = np.repeat(np.arange(len(first)), full)
    at = first[run] + 1 + _LONGEST_MATCH * (np.arange(len(run)) - np.repeat(np.cumsum(full) - full, full))
    begins[at], match[at] = True, _LONGEST_MATCH
    tail = first + 1 + _LONGEST_MATCH * full
    matched = rest >= _SHORTEST_MATCH
    begins[tail[matched]], match[tail[matched]] = True, rest[matched]
    for place in range(_SHORTEST_MATCH - 1):
        begins[tail[~matched & (rest > place)] + place] = True

    places = np.flatnonzero(begins)
    symbols = raw[places].astype(np.int16)
    extra_bits, extra = np.zeros_like(symbols), np.zeros_like(symbols)
    at = np.flatnonzero(match[places])
    lengths = match[places[at]]
    code = np.searchsorted(_LENGTH_BASE, lengths, side="right") - 1
    symbols[at], extra_bits[at], extra[at] = 257 + code, _LENGTH_EXTRA[code], lengths - _LENGTH_BASE[code]
    return symbols, extra_bits, extra


def _block_header(lengths: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The header of a final dynamic block, as values and their numbers of bits."""
    written = [*lengths.tolist(), 1]  # the last one: distance code 0, of one bit
    code_lengths = _code_lengths(np.bincount(written, minlength=19), 7)
    code_codes = _codes(code_lengths)
    fields = [(1, 1), (2, 2), (_SYMBOLS - 257, 5), (0, 5), (len(_CODE_LENGTH_ORDER) - 4, 4)]
    fields += [(int(code_lengths[symbol]), 3) for symbol in _CODE_LENGTH_ORDER]
    fields += [(int(code_codes[length]), int(code_lengths[length])) for length in written]
    values, sizes = zip(*fields, strict=True)
    return np.array(values), np.array(sizes)


def _code_lengths(counts: NDArray[np.int64], longest: int) -> NDArray[np.int64]:
    """Huffman code lengths of at most ``longest`` bits; 0 for symbols that do not occur. Two symbols must occur."""
    lengths = np.zeros(len(counts), np.int64)
    weights = {int(symbol): int(counts[symbol]) for symbol in np.flatnonzero(counts)}
    while True:
        # Each heap item: weight, a number that makes the order of equal weights definite, the symbols below it.
        heap: list[tuple[int, int, tuple[int, ...]]] = [
            (weight, symbol, (symbol,)) for symbol, weight in weights.items()
        ]
        heapq.heapify(heap)
        lengths[:] = 0
        while len(heap) > 1:
            first, second = heapq.heappop(heap), heapq.heappop(heap)
            members = first[2] + second[2]
            lengths[list(members)] += 1
            heapq.heappush(heap, (first[0] + second[0], min(first[1], second[1]), members))
        if lengths.max() <= longest:
            return lengths
        weights = {symbol: (weight + 1) // 2 for symbol, weight in weights.items()}


def _codes(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The canonical codes (RFC 1951, section 3.2.2), their bits reversed: the first bit is the lowest."""
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, int(lengths.max()) + 1):
        code <<= 1
        for symbol in np.flatnonzero(lengths == length):
            codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
            code += 1
    return codes


class _Stream:
    """Values of up to 21 bits one after the other, lowest bit first."""

    def __init__(self, most_bits: int) -> None:
        self._words = np.zeros(most_bits // 32 + 2, np.uint64)
        self._bits = 0

    def add(self, values: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        """Append values, each of its number of bits."""
        ends = np.cumsum(sizes)
        ends += self._bits
        starts = ends - sizes
        first = self._bits >> 5
        # The values that begin in a word share no bit, so their sum stays below 2 ** 53 and is exact in float64.
        sums = np.bincount((starts >> 5) - first, weights=(values << (starts & 31)).astype(np.float64))
        self._words[first : first + len(sums)] += sums.astype(np.uint64)
        self._bits = int(ends[-1])

    def content(self) -> bytes:
        """Everything, as bytes."""
        low = self._words & np.uint64(0xFFFFFFFF)
        low[1:] |= self._words[:-1] >> np.uint64(32)
        return low.astype("<u4").tobytes()[: (self._bits + 7) // 8]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
