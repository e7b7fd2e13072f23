"""Damaged files of every format: a sound value or one InputError. ``benchmarks/fuzz.py`` does the same for long."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from corrupted import EDITS, TARGETS, Edit, check
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize("reader", TARGETS)
def test_seeds_are_valid(reader: str, tmp_path: Path) -> None:
    """Undamaged, each is read: otherwise nothing but the first check of a reader would be tried."""
    from gyrus.io import read_image, read_volume

    target = TARGETS[reader]
    for name, data in target.seeds().items():
        path = tmp_path / name
        path.write_bytes(target.pack(data))
        if reader.startswith("nifti"):
            assert read_volume(path, 0).voxels.size
        elif name == "enhanced.dcm":
            assert read_volume(path).voxels.size
        else:
            assert read_image(path).pixels.size
        target.read(path)


@pytest.mark.parametrize("reader", TARGETS)
def test_damage_is_refused_or_harmless(reader: str) -> None:
    target = TARGETS[reader]

    @settings(max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(name=st.sampled_from(sorted(target.seeds())), edits=EDITS)
    def run(name: str, edits: list[Edit]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            check(target, name, edits, Path(folder))

    run()
