"""BraTS as volumes: the names of 2017 to 2021, those of 2023 and 2024, BraTS Toolkit's, and Decathlon Task01."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gyrus.artifacts import read_json
from gyrus.datasets.beside import left_out
from gyrus.datasets.cases import Case, Cases, LabelRef, VolumeRef, case_records
from gyrus.datasets.listing import Listing, and_more, count, listing
from gyrus.datasets.registry import DatasetReader
from gyrus.datasets.volumes import is_nifti, stem, walk
from gyrus.errors import InputError
from gyrus.records import Dataset, DatasetInfo

INFO = DatasetInfo(
    name="brats",
    title="BraTS: gliomas in four co-registered MR volumes, skull-stripped, 1 mm, with the tumour's parts drawn",
    citation=(
        "Menze, B. H. et al. The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS). IEEE TMI "
        "34(10):1993-2024, 2015; Bakas, S. et al. Advancing The Cancer Genome Atlas glioma MRI collections with expert "
        "segmentation labels and radiomic features. Sci Data 4:170117, 2017; Baid, U. et al. The RSNA-ASNR-MICCAI "
        "BraTS 2021 Benchmark. arXiv:2107.02314, 2021; Antonelli, M. et al. The Medical Segmentation Decathlon. Nat "
        "Commun 13:4128, 2022"
    ),
    licence="by the terms of the challenge it was fetched from; Decathlon Task01: CC BY-SA 4.0",
    classes=("glioma",),
    faults=(
        "Enhancing tumour is label 4 up to 2021 and 3 from 2023, and in 2024 a 4 is a resection cavity: read as the "
        "other, a file loses its enhancing part.",
        "The years hold the same patients under other names, and Decathlon is BraTS 2016 and 2017 renamed: two of them "
        "must not be trained and tested on each other.",
        "Brains are cut out of their skulls and lie on one atlas, which tells them from every clinical dataset.",
        "TCGA-DU-7294 as BraTS Toolkit leaves it has no expert's labels: algorithms drew them and were fused by vote.",
        "A slice above or below the tumour is of a patient with a tumour: it is no healthy brain.",
    ),
)

_TO_2021 = {1: "necrotic_core", 2: "oedema", 4: "enhancing"}
_FROM_2023 = {1: "necrotic_core", 2: "oedema", 3: "enhancing", 4: "resection_cavity"}
_TUMOURS = {"GLI": "glioma", "SSA": "glioma", "PED": "glioma", "MEN": "meningioma", "MET": "metastasis"}
"""What the cohorts of 2023 and later have; that of any other, such as GoAT, which mixes them, is unknown."""


@dataclass(frozen=True)
class _Names:
    """How the files of a case are called: what stands behind its id for each modality and for the labels."""

    images: Mapping[str, str]
    labels: str
    meaning: Mapping[int, str]


_LAYOUTS = (
    _Names({"t1": "_t1", "t1ce": "_t1ce", "t2": "_t2", "flair": "_flair"}, "_seg", _TO_2021),
    _Names({"t1": "-t1n", "t1ce": "-t1c", "t2": "-t2w", "flair": "-t2f"}, "-seg", _FROM_2023),
    _Names({"t1": "-t1-bet", "t1ce": "-t1c-bet", "t2": "-t2-bet", "flair": "-fla-bet"}, "-seg", _TO_2021),
)
_FUSED = "algorithmic-seg-fusion-mav"  # BraTS Toolkit names its fused labels so, without the case's id

_DECATHLON_FOLDERS = ("imagesTr", "imagesTs", "labelsTr")
_DECATHLON = {"FLAIR": "flair", "T1w": "t1", "t1gd": "t1ce", "T2w": "t2"}
_DECATHLON_LABELS = {
    "edema": "oedema",
    "non-enhancing tumor": "necrotic_core",
    "enhancing tumour": "enhancing",
}


def recognises(root: Path) -> bool:
    """Tell whether in a folder lies Decathlon's Task01, or two modalities of one case below the names of a year."""
    return root.is_dir() and any(
        _is_decathlon(folder, here) or _cases_in(root, folder, here) for folder, here in walk(root)
    )


def open_cases(root: Path) -> Cases:
    """Open any of the layouts; cases, and Decathlon's task, may lie at any depth (HGG/, LGG/). No header is read.

    The patient of ``BraTS-GLI-00000-000`` is ``BraTS-GLI-00000``, and that of ``Brats18_TCIA01_131_1`` is
    ``Brats18_TCIA01_131``: what follows counts the exams. A case without labels has none; one without a modality is
    kept, with a note; what lies beside the cases is left out with one.

    Raises:
        InputError: no case, a dataset.json that is not Decathlon's, or another dataset beside the cases.
    """
    found: dict[Path, list[Case]] = {}
    for folder, here in walk(root):
        if _is_decathlon(folder, here):
            return _open_decathlon(root, folder)
        if inside := _cases_in(root, folder, here):
            found[folder] = inside
    cases = [case for inside in found.values() for case in inside]
    if not cases:
        raise InputError(f"{root} holds no BraTS case: name the folder above those with the NIfTI files")
    notes = [
        f"{count(len(without), 'case')} without {what}: {and_more(without)}."
        for what, without in (
            ("labels", [c.id for c in cases if c.labels is None]),
            ("one of t1, t1ce, t2 and flair", [c.id for c in cases if len(c.images) < 4]),
            ("a known kind of tumour", [c.id for c in cases if c.tumour is None]),
        )
        if without
    ]
    return Cases(INFO, root, tuple(cases), (*notes, *left_out(root, INFO.name, found)))


def open_brats(root: Path) -> Dataset:
    """Open the axial slices of every case's contrast-enhanced T1 with the tumour's core as mask.

    Raises:
        InputError: as :func:`open_cases` and :func:`gyrus.datasets.cases.case_records`.
    """
    return case_records(open_cases(root))


def _cases_in(root: Path, folder: Path, here: Listing) -> list[Case]:
    """Return the cases whose files lie in a folder, which is listed: at least two modalities each."""
    files = {stem(name): folder / name for name in here.files if is_nifti(name)}
    cases = []
    for names in _LAYOUTS:
        found: dict[str, dict[str, VolumeRef]] = defaultdict(dict)
        for modality, ending in names.images.items():
            for called, path in files.items():
                if called.endswith(ending):
                    found[called.removesuffix(ending)][modality] = VolumeRef(path)
        for case, images in found.items():
            if len(images) > 1:
                labels = files.get(case + names.labels) or files.get(_FUSED)
                cases.append(_case(root, folder, case, images, LabelRef(labels, names.meaning) if labels else None))
    return cases


def _case(root: Path, folder: Path, id: str, images: dict[str, VolumeRef], labels: LabelRef | None) -> Case:
    cohort = re.match(r"BraTS-([A-Za-z]+)-", id)
    kind = cohort.group(1) if cohort else "GLI"  # before there were cohorts, all were gliomas
    if kind == "PED":
        labels = None  # the children's cohort gave its integers other meanings from one year to the next
    where = folder if folder.name == id else folder / id
    return Case(
        id=where.relative_to(root).as_posix() if where != root else id,
        images=images,
        patient=patient_of(id),
        study=id,
        labels=labels,
        tumour=_TUMOURS.get(kind),
        plane="axial",
    )


def patient_of(id: str) -> str:
    """Return the patient of a case's id: the id without the number of the exam, in the years that give one."""
    return re.sub(r"^(BraTS-[A-Za-z]+-\d+)-\d+$|^(Brats1[78]_\w+_\w+)_\d+$", r"\1\2", id)


def _is_decathlon(folder: Path, here: Listing) -> bool:
    return "imagesTr" in here.folders and "dataset.json" in here.files and _table(folder).get("name") == "BRATS"


def _open_decathlon(root: Path, task: Path) -> Cases:
    """Open Task01: dataset.json says what the channels and the labels are; the files present are the cases."""
    table = _table(task)
    try:
        channels = {_DECATHLON[name]: int(place) for place, name in table["modality"].items()}
        meaning = {int(value): _DECATHLON_LABELS[name] for value, name in table["labels"].items() if int(value)}
    except (KeyError, ValueError, AttributeError) as error:
        raise InputError(f"{task / 'dataset.json'} is not that of Task01_BrainTumour ({error!r}): restore it") from None
    drawn = set(listing(task / "labelsTr").files) if (task / "labelsTr").is_dir() else set()
    cases = []
    for folder in (task / "imagesTr", task / "imagesTs"):
        for name in listing(folder).files if folder.is_dir() else ():
            if not is_nifti(name):
                continue
            labelled = folder.name == "imagesTr" and name in drawn
            labels = LabelRef(task / "labelsTr" / name, meaning) if labelled else None
            case = stem(name)
            images = {modality: VolumeRef(folder / name, place) for modality, place in channels.items()}
            called = (folder / case).relative_to(root).as_posix()
            cases.append(Case(called, images, case, case, labels, tumour="glioma", plane="axial"))
    if not cases:
        raise InputError(f"{task} holds no volumes in imagesTr: unpack Task01_BrainTumour whole")
    return Cases(INFO, root, tuple(cases), left_out(root, INFO.name, [task / name for name in _DECATHLON_FOLDERS]))


def _table(task: Path) -> dict[str, Any]:
    content = read_json(task / "dataset.json", "the table of a Decathlon task")
    return content if isinstance(content, dict) else {}


READER = DatasetReader(
    info=INFO,
    recognises=recognises,
    open=open_brats,
    cases=open_cases,
    looks_for="NIfTI files X_t1ce and X_flair, or X-t1c and X-t2f, or imagesTr/ beside Decathlon's dataset.json",
)
