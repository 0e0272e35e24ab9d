"""Values as every database takes them: text that is valid, data that is JSON."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Any


def clean_text(text: str) -> str:
    """``text`` without what a database refuses: NUL and unpaired surrogates are written as escapes."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode("utf-8")


def plain(value: Any) -> Any:
    """``value`` as JSON data.

    Mappings become objects with text keys, sequences lists, sets sorted lists, numpy scalars numbers; a float that
    is not finite, which JSON lacks, and anything else become their text.
    """
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {clean_text(str(k)): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, set | frozenset):
        return sorted((plain(v) for v in value), key=str)
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return plain(value.item())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return clean_text(str(value))


def digest(value: Any) -> str:
    """SHA-256 of ``value`` as canonical JSON: the same content gives the same digest in any order of keys."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def as_text(value: Any) -> str:
    """A setting's value as ``--set`` takes it: several ones separated by commas."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
