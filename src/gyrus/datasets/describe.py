"""What a dataset holds, as ``gyrus data info`` shows it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from gyrus.datasets.registry import open_dataset
from gyrus.io import read_size


def describe(path: Path, name: str | None = None) -> dict[str, Any]:
    """Return counts per class, plane and subset, patients, masks, image sizes, licence, citation, and known faults.

    Args:
        path: the dataset's folder or manifest.
        name: of the reader, where it should not be recognised.

    Returns:
        The JSON document of ``gyrus data info``; sizes are read from the files' headers, most frequent first.

    Raises:
        InputError: the path is no dataset, or a file's header is damaged; the message names it.
    """
    dataset = open_dataset(path, name)
    sizes = Counter(read_size(record.path) for record in dataset)
    summary = dataset.summary()
    summary["sizes"] = [{"height": h, "width": w, "slices": n} for (h, w), n in sizes.most_common()]
    return {"schema": "gyrus.data/1", **summary}
