"""Labels that cannot all be right: on copies, on patients, and against what a model says that never saw the patient."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gyrus.audit.features import frozen_features
from gyrus.findings import Finding
from gyrus.groups import repeat_exams as repeats_among
from gyrus.loading import Progress
from gyrus.paths import PathLike
from gyrus.records import Record

if TYPE_CHECKING:
    from gyrus.duplicates import Copies

CONTRADICTION = "contradicting labels"
TWO_CLASSES = "patient of two classes"
REPEAT = "repeat exam"
DISAGREEMENT = "confident disagreement"

KINDS = {
    CONTRADICTION: "Copies of one picture under labels that cannot all be right.",
    TWO_CLASSES: "One patient's slices under several classes.",
    REPEAT: "Patient ids that differ by the letter of a repeat exam; splits keep them together.",
    DISAGREEMENT: (
        "Labels that a model trained without the patient, and without any copy of the slice, confidently disagrees "
        "with. Either may be wrong: look at the picture."
    ),
}
"""Every kind of finding made here, and what it means."""

FOLDS = 5
LEAST_GROUPS = 3
"""Groups that a class must have for a model of it to be tested on a group it has not seen."""
STRENGTH = 0.001
"""Inverse strength C of the logistic regression's penalty: the best of 0.1, 0.01, 0.001 and 0.0003 at finding changed
labels in Sartaj. It is small as there are about as many features as slices."""

DISPUTED = 0.6
"""The highest score of a disagreement: below every copy under another label, which is wrong for certain."""

_TUMOURS = frozenset({"glioma", "meningioma", "pituitary"})


def contradicting_labels(records: Sequence[Record], copies: Copies) -> list[Finding]:
    """Find copies of one picture whose labels cannot all be right, within a dataset and across datasets.

    "tumor" contradicts "no_tumor" but none of the three kinds of tumour; two other labels contradict each other when
    they differ. Who is right is not decided: the sentence names the files, how many say what, and what a dataset says
    that gives the patient or the tumour's outline, as it is nearer to the source.

    Args:
        records: slices of one dataset or several, told apart by their ``source``.
        copies: of these records, in this order.

    Returns:
        list[Finding]: one for each picture; its slices have the rarer label first.
    """
    clusters = ([records[i] for i in cluster if records[i].label is not None] for cluster in copies.clusters)
    return [_contradiction(members) for members in clusters if _contradict({r.label for r in members})]


def patients_of_two_classes(records: Iterable[Record]) -> list[Finding]:
    """Find patients whose slices carry labels that contradict each other.

    Two kinds of tumour in one person are rare and worth a look; slices without tumour beside slices with one are
    ordinary where labels are given slice by slice, and score low.

    Returns:
        list[Finding]: one for each patient; its slices are the first under each label, the rarer label first.
    """
    by_patient: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record.patient is not None and record.label is not None:
            by_patient[record.source, record.patient].append(record)
    found = []
    for (source, patient), members in by_patient.items():
        if not _contradict({r.label for r in members}):
            continue
        said = _by_label(members)
        healthy = not _contradict({label for label in said if label != "no_tumor"})
        sentence = f"Patient {patient} of {source} has {_counts(said)} slices"
        sentence += ": ordinary if slices without tumour were labelled so." if healthy else ": two kinds in one person."
        facts = {"patient": patient, "labels": {label: len(those) for label, those in said.items()}}
        firsts = tuple(those[0].id for those in said.values())
        found.append(Finding(TWO_CLASSES, 0.3 if healthy else 0.8, firsts, sentence, facts))
    return found


def repeat_exams(records: Iterable[Record]) -> list[Finding]:
    """Find patient ids that name one person twice, as MR048294 and MR048294B; see :func:`gyrus.groups.repeat_exams`.

    Returns:
        list[Finding]: one for each person; its slices are the first under each id.
    """
    by_source: dict[str, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.patient is not None:
            by_source[record.source][record.patient].append(record)
    found = []
    for source, patients in by_source.items():
        people: dict[str, list[str]] = defaultdict(list)
        for repeat, base in repeats_among(patients).items():
            people[base].append(repeat)
        for base, repeats in people.items():
            ids = [*([base] if base in patients else []), *repeats]
            sizes = [len(patients[i]) for i in ids]
            sentence = (
                f"{' and '.join(ids)} of {source} differ by the letter of a repeat exam "
                f"({' + '.join(map(str, sizes))} slices): one person, {base}, whom gyrus split keeps on one side."
            )
            firsts = tuple(patients[i][0].id for i in ids)
            found.append(Finding(REPEAT, 0.5, firsts, sentence, {"patient": base, "ids": ids, "slices": sum(sizes)}))
    return found


def confident_disagreements(
    records: Sequence[Record],
    groups: Sequence[str],
    *,
    seed: int = 0,
    weights: PathLike = "package",
    progress: Progress | None = None,
) -> list[Finding]:
    """Find labels that a model confidently disagrees with which saw neither the patient nor a copy of the slice.

    Confident learning (Northcutt et al., J. Artif. Intell. Res. 70, 2021), as cleanlab has it: out-of-fold
    probabilities (:func:`out_of_fold`) of the features of a frozen network
    (:func:`gyrus.audit.features.frozen_features`) give the joint distribution of given and true labels, and from it how
    many labels of each kind are wrong. One dataset at a time, as a model of several would tell their sources apart.
    Slices without a label, and of classes with fewer than :data:`LEAST_GROUPS` groups, are left out.

    Args:
        records: readable slices of one dataset or several.
        groups: of each, what a model may not see both sides of; see :func:`gyrus.groups.join_groups`.
        seed: of the folds.
        weights: "package", or a weight file; see :func:`gyrus.audit.features.frozen_features`.
        progress: called as features are computed.

    Returns:
        list[Finding]: least probable label first; the score is :data:`DISPUTED` times 1 minus the probability
        of the label that was given.
        Each says how many of the dataset's labels the model agrees with: one that is often wrong is wrong here too.

    Raises:
        InputError: a slice or the weight file cannot be read.
        MissingExtraError: ``weights="package"`` and the package is not installed.
    """
    found: list[Finding] = []
    for source in dict.fromkeys(r.source for r in records):
        members = _judgeable([i for i, r in enumerate(records) if r.source == source], records, groups)
        labels = [str(records[i].label) for i in members]
        if len(set(labels)) < 2:
            continue
        some = [records[i] for i in members]
        features = frozen_features(some, weights=weights, progress=progress)
        probabilities = out_of_fold(features, labels, [groups[i] for i in members], seed=seed)
        found += _disagreements(some, probabilities)
    return sorted(found, key=lambda f: (-f.score, f.slices))


def out_of_fold(
    features: NDArray[np.float32], labels: Sequence[str], groups: Sequence[str], *, seed: int = 0
) -> NDArray[np.float64]:
    """Return what a model says about each slice that was trained on other groups.

    Standardised features, then multinomial logistic regression with an L2 penalty (:data:`STRENGTH`), in as many
    stratified folds as the class with the fewest groups allows, at most :data:`FOLDS`.

    Args:
        features: (N, K).
        labels: N class names, each in at least two groups.
        groups: N group names.
        seed: of the folds.

    Returns:
        (N, C) probabilities, the classes in alphabetical order.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, target = np.unique(np.asarray(labels), return_inverse=True)
    groups_of_class = Counter(label for label, _ in set(zip(labels, groups, strict=True)))
    folds = StratifiedGroupKFold(min(FOLDS, *groups_of_class.values()), shuffle=True, random_state=seed)
    probabilities = np.zeros((len(target), len(classes)))
    for train, test in folds.split(features, target, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
        model.fit(features[train], target[train])
        probabilities[np.ix_(test, model.classes_)] = model.predict_proba(features[test])
    return probabilities


def _judgeable(members: Iterable[int], records: Sequence[Record], groups: Sequence[str]) -> list[int]:
    """Return those of the members that have a label which enough groups share."""
    labelled = [i for i in members if records[i].label is not None]
    groups_of_class = Counter(label for label, _ in {(records[i].label, groups[i]) for i in labelled})
    return [i for i in labelled if groups_of_class[records[i].label] >= LEAST_GROUPS]


def _disagreements(records: Sequence[Record], probabilities: NDArray[np.float64]) -> Iterator[Finding]:
    from cleanlab.filter import find_label_issues

    classes, given = np.unique(np.asarray([str(r.label) for r in records]), return_inverse=True)
    agrees = float((probabilities.argmax(axis=1) == given).mean())
    suspects = find_label_issues(given, probabilities, return_indices_ranked_by="self_confidence", n_jobs=1)
    for i in suspects:
        mine, best = float(probabilities[i, given[i]]), int(probabilities[i].argmax())
        unseen = "this patient" if records[i].patient is not None else "this picture"
        sentence = (
            f"Labelled {classes[given[i]]}; a model that never saw {unseen} takes it for {classes[best]} with "
            f"probability {probabilities[i, best]:.2f} and gives {classes[given[i]]} {mine:.2f} "
            f"(it agrees with {agrees:.0%} of the labels of {records[i].source})."
        )
        facts = {
            "given": str(classes[given[i]]),
            "given_probability": mine,
            "suggested": str(classes[best]),
            "suggested_probability": float(probabilities[i, best]),
            "agreement": agrees,
        }
        score = DISPUTED * min(1.0, max(0.0, 1 - mine))
        yield Finding(DISAGREEMENT, score, (records[i].id,), sentence, facts)


def _contradict(labels: Iterable[str | None]) -> bool:
    """Tell whether labels cannot all be right of one picture."""
    said = set(labels)
    return len(said - {"tumor"} if said & _TUMOURS else said) > 1


def _by_label(members: Iterable[Record]) -> dict[str, list[Record]]:
    """Return the members under each label, the rarest label first."""
    said: dict[str, list[Record]] = defaultdict(list)
    for record in members:
        said[str(record.label)].append(record)
    return dict(sorted(said.items(), key=lambda item: (len(item[1]), item[0])))


def _counts(said: dict[str, list[Record]]) -> str:
    return " and ".join(f"{len(those)} {label}" for label, those in said.items())


def _contradiction(members: Sequence[Record]) -> Finding:
    said = _by_label(members)
    files = "; ".join(
        f"{label} as {those[0].id}" + (f" and {len(those) - 1} more" if len(those) > 1 else "")
        for label, those in said.items()
    )
    near = [r for r in members if r.patient is not None or r.mask is not None]
    nearest = {str(r.label) for r in near}
    sentence = f"One picture is labelled {files}. Copies: {_counts(said)}"
    if len(nearest) == 1 and len(near) < len(members):
        source = " and ".join(sorted({r.source for r in near}))
        sentence += f"; {source}, which gives the patient and so is nearer to the source, says {nearest.pop()}"
    facts = {
        "labels": {label: len(those) for label, those in said.items()},
        "sources": sorted({r.source for r in members}),
    }
    return Finding(CONTRADICTION, 1.0, tuple(r.id for those in said.values() for r in those), f"{sentence}.", facts)
