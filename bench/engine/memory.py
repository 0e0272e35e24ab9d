"""How much memory a stretch of work takes at its peak: of the GPU, or of this process."""

from __future__ import annotations

import contextlib
import ctypes
from pathlib import Path

_PROC = Path("/proc/self")


def reset_peak(device: str) -> bool:
    """Begin a new peak; whether the system let us. Some containers do not: the peak is then since the start."""
    if device != "cpu":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        return True
    if not (_PROC / "clear_refs").exists():
        return False
    try:
        (_PROC / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def peak(device: str) -> int | None:
    """Bytes at the peak since :func:`reset_peak`: allocated on the GPU, or resident on the CPU; None where unknown."""
    if device != "cpu":
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    return _status("VmHWM")


def held(device: str) -> int | None:
    """Bytes held now, in the sense of :func:`peak`; what is free goes back to the system first, where it takes it."""
    if device != "cpu":
        import torch

        return int(torch.cuda.memory_allocated(device))
    with contextlib.suppress(AttributeError, OSError):  # glibc's; others have none
        ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def _status(field: str) -> int | None:
    path = _PROC / "status"
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    return None
