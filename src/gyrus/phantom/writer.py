"""Write the phantom dataset: images, masks, manifest and description, all or nothing."""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gyrus.datasets.manifest import PHANTOM_INFO
from gyrus.errors import InputError
from gyrus.paths import PathLike
from gyrus.phantom.anatomy import Atlas, build_atlas
from gyrus.phantom.patient import Patient, draw_patient
from gyrus.phantom.render import AXES, FIELD_OF_VIEW, Cut, render_slice, tumour_mask
from gyrus.phantom.tumours import CLASSES, NO_TUMOR, Tumour, draw_tumour
from gyrus.records import PLANES

COLUMNS = ("file", "label", "patient", "study", "mask", "plane")
_MIN_PATIENTS, _MIN_SIZE = 8, 64
_MIN_MASK = 30  # pixels at size 192
_THREADS = 2


@dataclass(frozen=True)
class _Slice:
    """One finished slice and its row of the manifest."""

    name: str
    label: str
    patient: str
    plane: str
    image: NDArray[np.uint8]
    mask: NDArray[np.bool_]


def make_phantom(
    out: PathLike,
    *,
    patients: int = 60,
    seed: int = 0,
    slices_per_plane: int = 3,
    size: int = 192,
    varied: bool = False,
) -> Path:
    """Write a deterministic synthetic dataset that looks like T1 contrast-enhanced brain MRI.

    Anatomy is the MNI152 template bundled with nilearn, warped differently for each patient, inside a drawn head;
    tumours are drawn in 3-D where they grow. Slices are shown in radiological convention: the patient's left is on the
    image's right; anterior is on top of axial slices and on the left of sagittal ones; superior is on top of coronal
    and sagittal slices. The template is symmetric, so every head is bent the same way on purpose (right frontal and
    left occipital lobe wider, left lateral ventricle and right transverse sinus larger): a mirrored image can be told.

    Written are ``images/<id>.png`` (8-bit grey, ``size`` x ``size``, isotropic, 240 mm across), ``masks/<id>.png``
    (0 or 255; the enhancing part and the core, without oedema; only for slices with a tumour, all of which cut it),
    ``manifest.csv`` (file, label, patient, study, mask, plane; POSIX paths relative to ``out``) and, last,
    ``dataset.json``. Classes are balanced over patients. The slices of a patient without a tumour lie at levels drawn
    as for those with one. A patient depends on ``seed`` and its number only, not on how many there are.

    Args:
        out: folder to create; it may exist if it is empty.
        patients: how many, at least 8.
        seed: any non-negative integer; the same arguments give the same bytes.
        slices_per_plane: slices per patient in each of the three planes, at least 1.
        size: pixels per edge, at least 64.
        varied: let gliomas differ as much as real ones, which is worth more to learn from, and harder: see
            :func:`gyrus.phantom.tumours.draw_tumour`. Otherwise all of them are rings inside the white matter.

    Returns:
        ``out``.

    Raises:
        InputError: an argument is out of range, or ``out`` is a file or holds something. Nothing is written then.
    """
    out = Path(out)
    patients, seed, slices_per_plane, size = (int(n) for n in (patients, seed, slices_per_plane, size))
    _check(out, patients, seed, slices_per_plane, size)
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        _write(draft, patients, seed, slices_per_plane, size, varied)
        draft.chmod(0o755)  # mkdtemp makes private folders; the dataset is an ordinary one
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return out


def _check(out: Path, patients: int, seed: int, slices_per_plane: int, size: int) -> None:
    if patients < _MIN_PATIENTS:
        raise InputError(f"{out}: {patients} patients are too few for a phantom; ask for at least {_MIN_PATIENTS}")
    if size < _MIN_SIZE:
        raise InputError(f"{out}: slices of {size} pixels are too small for a phantom; ask for at least {_MIN_SIZE}")
    if slices_per_plane < 1:
        raise InputError(f"{out}: {slices_per_plane} slices per plane make no phantom; ask for at least 1")
    if seed < 0:
        raise InputError(f"{out}: the seed {seed} is negative; give 0 or more")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; name a folder that does not exist yet")
    if out.is_dir() and any(out.iterdir()):
        raise InputError(f"{out} is not empty; name a new folder, or empty this one first")


def _write(draft: Path, patients: int, seed: int, slices_per_plane: int, size: int, varied: bool) -> None:
    from PIL import Image

    (draft / "images").mkdir()
    (draft / "masks").mkdir()
    atlas = build_atlas()
    rows = []
    make = partial(_patient_slices, atlas, seed=seed, slices_per_plane=slices_per_plane, size=size, varied=varied)
    with ThreadPoolExecutor(_THREADS) as pool:  # patients are independent, and numpy and scipy release the lock
        for finished in pool.map(lambda k: list(make(k)), range(patients)):
            for s in finished:
                file, mask = f"images/{s.name}.png", ""
                Image.fromarray(s.image).save(draft / file, compress_level=3)
                if s.label != NO_TUMOR:
                    mask = f"masks/{s.name}.png"
                    Image.fromarray(s.mask.astype(np.uint8) * 255).save(draft / mask)
                rows.append((file, s.label, s.patient, f"{s.patient}-1", mask, s.plane))
    with (draft / "manifest.csv").open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(COLUMNS)
        table.writerows(rows)
    about = {
        **asdict(PHANTOM_INFO),
        "synthetic": True,
        "seed": seed,
        "patients": patients,
        "slices_per_plane": slices_per_plane,
        "size": size,
        "spacing_mm": FIELD_OF_VIEW / size,
        **({"gliomas": "varied"} if varied else {}),
    }
    (draft / "dataset.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def patient_label(seed: int, number: int) -> str:
    """Return the class of one patient: each block of four patients holds every class once, in an order of its own."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1, number // len(CLASSES)]))
    return CLASSES[rng.permutation(len(CLASSES))[number % len(CLASSES)]]


def _patient_slices(
    atlas: Atlas, number: int, *, seed: int, slices_per_plane: int, size: int, varied: bool
) -> Iterator[_Slice]:
    """Yield one patient's slices."""
    shape, growth, scanner = (np.random.default_rng(s) for s in np.random.SeedSequence([seed, 2, number]).spawn(3))
    label = patient_label(seed, number)
    patient = draw_patient(shape)
    # A healthy patient is cut where a tumour of some kind could have been, so that the level gives nothing away.
    kind = label if label != NO_TUMOR else str(growth.choice(CLASSES[:3]))
    tumour = draw_tumour(atlas, patient, kind, growth, varied=varied)
    name = f"P{number:03d}"
    for plane in PLANES:
        for i, cut in enumerate(_cuts(atlas, patient, tumour, plane, slices_per_plane, size, growth)):
            image, mask = render_slice(atlas, patient, cut, tumour if label != NO_TUMOR else None, scanner)
            yield _Slice(f"{name}-{plane}-{i + 1}", label, name, plane, image, mask)


def _cuts(
    atlas: Atlas, patient: Patient, tumour: Tumour, plane: str, count: int, size: int, rng: np.random.Generator
) -> Iterator[Cut]:
    """Yield slices through the tumour at varied offsets, each of which cuts enough of it."""
    enough = _MIN_MASK * (size / 192) ** 2
    for i in range(count):
        offset = ((i + rng.uniform(0.1, 0.9)) / count * 2 - 1) * 0.72 * tumour.radius
        for shrink in (1.0, 0.6, 0.3, 0.0):
            cut = Cut(plane, float(tumour.centre[AXES[plane][2]] + shrink * offset), size)
            if tumour_mask(atlas, patient, cut, tumour).sum() >= enough:
                break
        yield cut
