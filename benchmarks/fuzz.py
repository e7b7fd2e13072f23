"""Damage valid files for minutes on end and read them: anything but a sound value or an InputError is a bug.

    python benchmarks/fuzz.py --minutes 10 --reader dicom

The files, the damage and what is asked of each reader are those of ``tests/test_io_fuzz.py``. Batches run in processes
of their own, so that a decoder that takes its process down, hangs, or eats memory is caught and told from a refusal;
the file that did it is kept. Exits 1 on the first finding.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1] / "tests"
BATCH = 500
PATIENCE = 300  # seconds of processor time until a batch counts as hung
MEMORY = 6 << 30  # bytes of address space for a batch; more is refused to it


def batch(reader: str, seed: int, folder: Path) -> None:
    """Read one batch of damaged files, leaving the last one in ``folder``."""
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from hypothesis import strategies as st

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (PATIENCE, PATIENCE + 5))  # ends in SIGXCPU, however busy the machine is
    sys.path.insert(0, str(TESTS))
    corrupted = importlib.import_module("corrupted")
    target = corrupted.TARGETS[reader]
    phases = (Phase.generate, Phase.shrink)

    @seeded(seed)
    @settings(max_examples=BATCH, deadline=None, database=None, phases=phases, suppress_health_check=list(HealthCheck))
    @given(name=st.sampled_from(sorted(target.seeds())), edits=corrupted.EDITS)
    def run(name: str, edits: list[Any]) -> None:
        for old in folder.iterdir():
            old.unlink()
        corrupted.check(target, name, edits, folder)

    run()


def fuzz(reader: str, minutes: float, seed: int, out: Path) -> bool:
    """Run batches until the time is up; return whether nothing was found."""
    end, started, done = time.monotonic() + 60 * minutes, time.monotonic(), 0
    while time.monotonic() < end:
        folder = out / f"{reader}-{seed}"
        folder.mkdir(parents=True, exist_ok=True)
        words = [sys.executable, __file__, "--reader", reader, "--seed", str(seed), "--batch-in", str(folder)]
        with tempfile.TemporaryFile() as said:
            code = subprocess.run(words, stdout=said, stderr=said, check=False).returncode
            if code != 0:
                said.seek(0)
                text = said.read().decode(errors="replace")[-4000:]
                how = f"ended by {signal.Signals(-code).name}" if code < 0 else "failed"
                print(f"{reader}: the batch of seed {seed} {how}; its last file is in {folder}\n{text}")
                return False
        for old in folder.iterdir():
            old.unlink()
        folder.rmdir()
        done, seed = done + BATCH, seed + 1
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    took = (time.monotonic() - started) / 60
    said_so = f"{done} damaged files in {took:.1f} min: sound values and InputErrors; peak {peak:.0f} MiB"
    print(f"{reader}: {said_so}", flush=True)
    return True


def main() -> None:
    """Read the command line, and fuzz; or run the one batch that a process was started for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reader", nargs="+", required=True, help="those of tests/corrupted.py: nifti, dicom ...")
    parser.add_argument("--minutes", type=float, default=10, help="for each reader")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch; each batch adds one")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "gyrus-fuzz")
    parser.add_argument("--batch-in", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.batch_in is not None:
        batch(given.reader[0], given.seed, given.batch_in)
        return
    clean = [fuzz(reader, given.minutes, given.seed, given.out) for reader in given.reader]  # all, whatever is found
    if not all(clean):
        sys.exit(1)


if __name__ == "__main__":
    main()
