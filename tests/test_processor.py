"""NumPy's AVX-512 is turned off where it is slow, and nowhere else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gyrus.processor import DISABLED, sort_by_avx2

ZEN4 = {"vendor_id": "AuthenticAMD", "cpu family": "25", "model": "17", "flags": "fpu avx2 avx512f avx512_vbmi2"}


def cpuinfo(folder: Path, **changed: str) -> Path:
    """Two cores as Linux lists them, the second of another maker."""
    said = ZEN4 | {name.replace("_family", " family"): value for name, value in changed.items()}
    first = "\n".join(f"{name}\t: {value}" for name, value in said.items())
    path = folder / "cpuinfo"
    path.write_text(f"processor\t: 0\n{first}\n\nprocessor\t: 1\nvendor_id\t: GenuineIntel\n", encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLED, "")  # so that it is put back afterwards, whatever it was
    monkeypatch.delenv(DISABLED)


def test_zen_4(tmp_path: Path) -> None:
    sort_by_avx2(cpuinfo(tmp_path))
    assert os.environ[DISABLED] == "X86_V4 AVX512_ICL"


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"flags": "fpu avx2"}, id="zen 3"),
        pytest.param({"cpu_family": "26"}, id="zen 5"),
        pytest.param({"vendor_id": "GenuineIntel"}, id="intel"),
    ],
)
def test_others(tmp_path: Path, changed: dict[str, str]) -> None:
    sort_by_avx2(cpuinfo(tmp_path, **changed))
    assert DISABLED not in os.environ


def test_no_linux(tmp_path: Path) -> None:
    sort_by_avx2(tmp_path / "none")
    assert DISABLED not in os.environ


def test_numpy_that_has_other_names_for_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gyrus.processor.version", lambda _: "2.3.5")
    sort_by_avx2(cpuinfo(tmp_path))
    assert DISABLED not in os.environ


def test_what_is_set_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DISABLED, "AVX512_ICL")
    sort_by_avx2(cpuinfo(tmp_path))
    assert os.environ[DISABLED] == "AVX512_ICL"


def test_numpy_takes_it_without_a_word(tmp_path: Path) -> None:
    """In a process of its own, whose processor may or may not have what is turned off."""
    script = f"""
import json, sys
from pathlib import Path
from gyrus.processor import sort_by_avx2
assert "numpy" not in sys.modules
sort_by_avx2(Path({str(cpuinfo(tmp_path))!r}))
import numpy as np
print(json.dumps(np.show_config(mode="dicts")["SIMD Extensions"]["found"]))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "X86_V4" not in json.loads(done.stdout)


def test_the_command_comes_to_it_before_numpy(tmp_path: Path) -> None:
    script = "import sys, gyrus.__main__; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
