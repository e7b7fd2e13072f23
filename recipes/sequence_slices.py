"""Slices of known sequence: phantom patients scanned as T1, T1-CE, T2, FLAIR or otherwise, with skull and without.

Each tissue's brightness is drawn anew for every slice, as far apart as scanners and protocols are, but in the order
that the sequence gives: fluid dark on T1 and FLAIR and bright on T2, white matter brighter than grey on T1 and darker
on the others, vessels, dura and mucosa bright after contrast medium alone. Tumours and the swelling around them follow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
from plane_slices import SIDE, Drawn, filled, levels, loosely_built

from gyrus.phantom.anatomy import Atlas
from gyrus.phantom.fields import Floats, mix, soft_step
from gyrus.phantom.head import SDF_IN, SDF_OUT, SOFT
from gyrus.phantom.patient import Scan, draw_patient
from gyrus.phantom.render import AXES, Cut, render_slice
from gyrus.phantom.tumours import CLASSES, NO_TUMOR, Tumour, draw_tumour
from gyrus.records import PLANES
from gyrus.words import SEQUENCES

OTHER = len(SEQUENCES)
"""The index of what is none of them: CT, and fluid as bright as tissue (proton density)."""
SHARES = (0.27, 0.27, 0.2, 0.2, 0.06)
"""Of the slices, in the order of SEQUENCES and OTHER."""

_BARE = 0.3  # of the slices without skull
_THROUGH = 0.35  # of the slices of a patient with a tumour cut where it is
_TONES = (0.0, 0.13, 0.34, 0.5, 0.64, 1.0)  # of the atlas: air, fluid, muscle, brain, mucosa and glands, most


@dataclass(frozen=True, eq=False)
class Sliced(Drawn):
    """One cut slice and the index of its sequence, in SEQUENCES or OTHER."""

    sequence: int


@dataclass(frozen=True, eq=False)
class Toned(Atlas):
    """The atlas with the soft tissues of another sequence.

    Attributes:
        tones: brightness of what has _TONES.
        bare: where the brain ends, in mm outside its hull, for a head without skull; None for a whole one.
    """

    tones: tuple[float, ...] = _TONES
    bare: float | None = None

    def sample_head(self, points: Floats) -> Floats:
        """Return (N, 6) channels, toned."""
        head = super().sample_head(points)
        head[:, SOFT] = np.interp(head[:, SOFT], _TONES, self.tones)
        if self.bare is not None:
            head[:, SDF_OUT] = np.maximum(head[:, SDF_OUT], head[:, SDF_IN] - self.bare)
        return head


@dataclass(frozen=True, eq=False)
class Swollen(Tumour):
    """A tumour around which the tissue is of another brightness, as the sequence has it.

    Attributes:
        swelling: brightness.
        reach: of the swelling in mm; 0 for none.
    """

    swelling: float = 0.0
    reach: float = 0.0

    def paint(self, image: Floats, d: Floats, noise: Floats, white: Floats, hull: Floats, dura: float) -> Floats:
        """Return the brightness with swelling and tumour in it."""
        if self.reach:
            spread = 1 - soft_step(d + 3.0 * noise[:, 2], self.reach, 7.0)
            image = mix(image, self.swelling, spread * np.clip(white + 0.3, 0, 1) * (hull < 0))
        return super().paint(image, d, noise, white, hull, dura)


def sequence_slices(atlas: Atlas, number: int, seed: int) -> Iterator[Sliced]:
    """Yield slices of one phantom patient, in every plane, each of a sequence of its own."""
    rng = np.random.default_rng([seed, 7, number])
    patient = loosely_built(draw_patient(rng), rng)
    kind = CLASSES[number % len(CLASSES)]
    tumour = None if kind == NO_TUMOR else draw_tumour(atlas, patient, kind, rng, varied=True)
    whole = Toned(**{f.name: getattr(atlas, f.name) for f in fields(Atlas)})
    for plane in PLANES:
        for level in levels(plane, rng):
            sequence = int(rng.choice(len(SHARES), p=SHARES))
            scan, tones = contrast(sequence, patient.scan, rng)
            bare = float(rng.uniform(-1, 3)) if sequence != OTHER and rng.random() < _BARE else None
            if tumour is not None and rng.random() < _THROUGH:
                level = tumour.centre[AXES[plane][2]] + rng.uniform(-0.8, 0.8) * tumour.radius
            seen = None if tumour is None else scanned(tumour, sequence, scan, rng)
            toned, cut = replace(whole, tones=tones, bare=bare), Cut(plane, float(level), SIDE)
            pixels, _ = render_slice(toned, replace(patient, scan=scan), cut, seen, rng)
            if filled(pixels):
                yield Sliced(pixels, PLANES.index(plane), f"phantom-{number}", sequence)


def contrast(sequence: int, scan: Scan, rng: np.random.Generator) -> tuple[Scan, tuple[float, ...]]:
    """Return the scan with another sequence's brightness of tissues, and the tones of the soft ones."""

    def between(low: float, high: float) -> float:
        return float(rng.uniform(low, high))

    scan = replace(scan, noise=scan.noise * between(0.3, 2.2), skull=between(4, 9), blur=scan.blur * between(0.8, 2.0))
    name = SEQUENCES[sequence] if sequence != OTHER else "CT" if rng.random() < 0.5 else "PD"
    darkest, brightest = {"T2": (0.15, 0.42), "FLAIR": (0.25, 0.55), "CT": (0.3, 0.5)}.get(name, (0.36, 0.6))
    white = between(darkest, brightest)
    if name in ("T1", "T1-CE"):
        fat, fluid, muscle = between(0.3, 1.05), white * between(0.1, 0.4), white * between(0.45, 0.9)
        scan = replace(scan, grey=white * between(0.6, 0.95), fat=fat, marrow=fat * between(0.3, 0.8))
        if name == "T1":
            gland = max(white * between(0.5, 1.0), white * between(0.7, 1.2))
            scan = replace(scan, vessel=white * between(0.05, 1.0), dura=between(0, 0.08))
        else:
            gland = between(0.5, 0.85)
            scan = replace(scan, vessel=between(0.65, 1.0), dura=between(0.1, 0.6))
        tones = (0, fluid, muscle, white, gland, 1.0)
    elif name == "T2":
        fat, fluid = between(0.15, 0.95), between(0.65, 1.1)
        scan = replace(scan, grey=min(white * between(1.1, 1.9), 0.9 * fluid), fat=fat, marrow=fat * between(0.2, 0.7),
                       vessel=between(0.02, 0.3), dura=between(0, 0.15))  # fmt: skip
        tones = (0, fluid, between(0.06, 0.25), white * between(0.9, 1.4), between(0.4, 0.9), 1.0)
    elif name == "FLAIR":
        fat, fluid = between(0.15, 0.95), white * between(0.05, 0.35)
        scan = replace(scan, grey=white * between(1.05, 1.5), fat=fat, marrow=fat * between(0.2, 0.7),
                       vessel=between(0.03, 0.5), dura=between(0, 0.3))  # fmt: skip
        tones = (0, fluid, white * between(0.3, 0.8), white, between(0.4, 0.8), 1.0)
    elif name == "CT":
        fat, fluid = between(0, 0.25), white * between(0.3, 0.7)
        scan = replace(scan, grey=white * between(1.03, 1.2), fat=fat, marrow=between(1.6, 3.0),
                       vessel=white * between(0.9, 2.0), dura=0.1)  # fmt: skip
        tones = (0, fluid, white * between(0.9, 1.1), white, white, 1.0)
    else:
        fat, fluid = between(0.4, 1.0), white * between(1.0, 1.4)
        scan = replace(scan, grey=white * between(1.08, 1.35), fat=fat, vessel=between(0.02, 0.3), dura=between(0, 0.2))
        tones = (0, fluid, white * between(0.4, 0.8), white, between(0.5, 0.8), 1.0)
    return replace(scan, white=white, fluid=fluid, soft=1.0), tones


def scanned(tumour: Tumour, sequence: int, scan: Scan, rng: np.random.Generator) -> Tumour:
    """Return the tumour as a sequence shows it: the phantom's own is after contrast medium."""
    if sequence == SEQUENCES.index("T1-CE"):
        return tumour
    reach = tumour.oedema if rng.random() < 0.7 else 0.0
    (low, high), (dark, bright), (least, most) = {
        "T1": ((0.5, 1.15), (0.3, 0.8), (0.6, 0.9)),
        "T2": ((0.4, 1.0), (0.3, 1.1), (0.5, 1.0)),
        "FLAIR": ((1.1, 2.2), (0.2, 2.2), (1.3, 2.2)),
    }.get("" if sequence == OTHER else SEQUENCES[sequence], ((0.8, 1.8), (0.5, 1.2), (0.7, 1.2)))
    unit = 1.0 if sequence == SEQUENCES.index("T2") else scan.white
    kept = {f.name: getattr(tumour, f.name) for f in fields(Tumour)}
    kept |= {"level": unit * rng.uniform(low, high), "oedema": 0.0}
    kept |= {"core": None if tumour.core is None else unit * rng.uniform(dark, bright)}
    return Swollen(**kept, swelling=unit * rng.uniform(least, most), reach=reach)
