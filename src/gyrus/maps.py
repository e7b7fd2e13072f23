"""Raw maps of a whole dataset, on disk and in memory. No torch here: scores and reports are made from these files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from gyrus.artifacts import read_json, write_json
from gyrus.errors import InputError
from gyrus.paths import PathLike
from gyrus.preprocess import Preprocess

SCHEMA = "gyrus.maps/1"


class MapKey(NamedTuple):
    """Which maps: by what method, at which layer, for which class ("predicted" or "true") of each slice."""

    method: str
    layer: str
    target: str

    def __str__(self) -> str:
        return "|".join(self)


@dataclass(frozen=True, eq=False)
class Maps:
    """Raw maps of N slices.

    Attributes:
        ids: the N record ids.
        arrays: key -> (N, h, w) float32, unscaled, at feature size.
        status: key -> N times "ok", "blank" (every value equal) or "non-finite".
        explained: target kind -> N class names, the class each map argues for.
        preprocess: how the slices became input, to lay a map back on its slice.
    """

    ids: tuple[str, ...]
    arrays: Mapping[MapKey, NDArray[np.float32]]
    status: Mapping[MapKey, tuple[str, ...]]
    explained: Mapping[str, tuple[str, ...]]
    preprocess: Preprocess

    def save(self, folder: PathLike) -> None:
        """Write ``maps.safetensors`` and ``maps.json`` into an existing folder."""
        folder = Path(folder)
        packed = save({str(k): np.ascontiguousarray(v) for k, v in self.arrays.items()})
        (folder / "maps.safetensors").write_bytes(packed)
        index: dict[str, Any] = {
            "schema": SCHEMA,
            "ids": self.ids,
            "status": {str(k): v for k, v in self.status.items()},
            "explained": self.explained,
            "preprocess": self.preprocess.model_dump(),
        }
        write_json(folder / "maps.json", index)

    def summary(self) -> dict[str, Any]:
        """Return what was explained, without the maps: the JSON document of ``gyrus explain``."""
        return {
            "schema": SCHEMA,
            "slices": len(self.ids),
            "maps": [
                {**key._asdict(), "grid": list(array.shape[1:]), "status": dict(Counter(self.status[key]))}
                for key, array in self.arrays.items()
            ],
        }

    @classmethod
    def load(cls, folder: PathLike) -> Maps:
        """Read what :meth:`save` wrote.

        Raises:
            InputError: a file is missing or damaged.
        """
        folder = Path(folder)
        index = read_json(folder / "maps.json", "the index of explained maps")
        try:
            if index["schema"] != SCHEMA:
                raise ValueError(f"of schema {index['schema']!r}, not {SCHEMA!r}")
            arrays = load_file(folder / "maps.safetensors")
            maps = cls(
                ids=tuple(index["ids"]),
                arrays={MapKey(*k.split("|")): arrays[k] for k in index["status"]},
                status={MapKey(*k.split("|")): tuple(v) for k, v in index["status"].items()},
                explained={k: tuple(v) for k, v in index["explained"].items()},
                preprocess=Preprocess.model_validate(index["preprocess"]),
            )
            _require_one_per_slice(maps)
        except (OSError, SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
            why = str(error).splitlines()[0]  # pydantic's goes on for a paragraph
            raise InputError(f"{folder} holds no usable maps ({why}): run `gyrus explain` again") from None
        return maps


def _require_one_per_slice(maps: Maps) -> None:
    """Raise ValueError unless every key has one map, one status and one explained class for each id."""
    n = len(maps.ids)
    for key, array in maps.arrays.items():
        if array.ndim != 3 or not n == len(array) == len(maps.status[key]) == len(maps.explained[key.target]):
            raise ValueError(f"{key} does not have one map for each of {n} slices")
