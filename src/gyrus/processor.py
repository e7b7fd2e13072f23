"""What is to be settled about the processor before NumPy is loaded."""

from __future__ import annotations

import os
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

DISABLED = "NPY_DISABLE_CPU_FEATURES"
_AVX512 = "X86_V4 AVX512_ICL"
_NAMED_SINCE = (2, 4)
"""The release of NumPy from which on its instruction sets have the names above."""


def sort_by_avx2(cpuinfo: Path = Path("/proc/cpuinfo")) -> None:
    """Have NumPy leave AVX-512 alone on AMD's Zen 4, where its sort is several times slower than the one with AVX2.

    To store what a comparison has picked, which the sort does all the time, is microcode there (numpy/x86-simd-sort#6);
    Zen 5 and Intel's processors are fast at it. Every map that is scored is sorted. What the environment says already
    stays, and where NumPy is loaded it is too late.

    Args:
        cpuinfo: what Linux says of the processor; elsewhere nothing is done.
    """
    if tuple(int(n) for n in version("numpy").split(".")[:2]) >= _NAMED_SINCE and _is_zen4(cpuinfo):
        os.environ.setdefault(DISABLED, _AVX512)


def _is_zen4(cpuinfo: Path) -> bool:
    try:
        with cpuinfo.open(encoding="utf-8", errors="replace") as file:  # of the first core alone
            pairs = [line.partition(":")[::2] for line in takewhile(str.strip, file)]
    except OSError:
        return False
    said = {name.strip(): value.split() for name, value in pairs}
    # Zen 3, of the same family, has no AVX-512.
    zen = (said.get("vendor_id"), said.get("cpu family")) == (["AuthenticAMD"], ["25"])
    return zen and "avx512f" in said.get("flags", [])
