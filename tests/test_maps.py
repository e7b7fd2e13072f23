"""Maps on disk: what was saved is what is read, and what is not whole is refused in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gyrus.errors import InputError
from gyrus.maps import MapKey, Maps
from gyrus.preprocess import Preprocess

# In neither alphabetical nor reverse order, so that a round trip that sorts is seen.
KEYS = (
    MapKey("layercam", "body.net.layer3", "predicted"),
    MapKey("cam", "body", "true"),
    MapKey("gradcam++", "body", "predicted"),
)


def some_maps() -> Maps:
    shapes = ((3, 4, 6), (3, 2, 3), (3, 2, 3))
    arrays = {
        key: np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 7 - 2
        for key, shape in zip(KEYS, shapes, strict=True)
    }
    arrays[KEYS[1]][1, 0, 2] = np.nan
    arrays[KEYS[1]][2] = 0.5
    arrays[KEYS[2]] = arrays[KEYS[2]].transpose(0, 2, 1)  # not contiguous
    return Maps(
        ids=("b/2.png", "a/1.png", "ü c.png"),
        arrays=arrays,
        status={KEYS[0]: ("ok",) * 3, KEYS[1]: ("ok", "non-finite", "blank"), KEYS[2]: ("ok",) * 3},
        explained={"predicted": ("glioma", "glioma", "no_tumor"), "true": ("glioma", "meningioma", "no_tumor")},
        preprocess=Preprocess(crop="head", fit="stretch", size=96, mean=(0.5,), std=(0.25,)),
    )


def test_what_was_saved_is_what_is_read(tmp_path: Path) -> None:
    maps = some_maps()
    maps.save(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["maps.json", "maps.safetensors"]
    again = Maps.load(tmp_path)
    assert list(again.arrays) == list(KEYS)
    for key, array in maps.arrays.items():
        assert again.arrays[key].dtype == np.float32
        np.testing.assert_array_equal(again.arrays[key], array, strict=True)  # NaN where NaN was
    assert list(again.status.items()) == list(maps.status.items())
    assert (again.ids, again.explained, again.preprocess) == (maps.ids, maps.explained, maps.preprocess)
    assert all(isinstance(key, MapKey) for key in again.arrays)


def test_the_same_maps_make_the_same_files(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        some_maps().save(tmp_path / name)
    for file in ("maps.json", "maps.safetensors"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_key_reads_as_method_layer_target() -> None:
    assert str(KEYS[0]) == "layercam|body.net.layer3|predicted"


def _index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        index = json.loads((folder / "maps.json").read_text(encoding="utf-8"))
        change(index)
        (folder / "maps.json").write_text(json.dumps(index), encoding="utf-8")

    return damage


def _drop_array(folder: Path) -> None:
    arrays = load_file(folder / "maps.safetensors")
    del arrays[str(KEYS[1])]
    save_file(arrays, folder / "maps.safetensors")


def _truncate(folder: Path) -> None:
    data = (folder / "maps.safetensors").read_bytes()
    (folder / "maps.safetensors").write_bytes(data[:-10])


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no index": lambda folder: (folder / "maps.json").unlink(),
    "no arrays": lambda folder: (folder / "maps.safetensors").unlink(),
    "cut arrays": _truncate,
    "an array missing": _drop_array,
    "not JSON": lambda folder: (folder / "maps.json").write_text("{", encoding="utf-8"),
    "a list": lambda folder: (folder / "maps.json").write_text("[]", encoding="utf-8"),
    "another schema": _index(lambda index: index.update(schema="gyrus.maps/2")),
    "no schema": _index(lambda index: index.pop("schema")),
    "no ids": _index(lambda index: index.pop("ids")),
    "fewer ids": _index(lambda index: index["ids"].pop()),
    "fewer statuses": _index(lambda index: index["status"][str(KEYS[2])].pop()),
    "fewer classes": _index(lambda index: index["explained"]["true"].pop()),
    "an unknown target": _index(lambda index: index["explained"].pop("true")),
    "a malformed key": _index(lambda index: index["status"].update(cam=["ok"] * 3)),
    "status as list": _index(lambda index: index.update(status=["ok"])),
    "a preprocessing that is none": _index(lambda index: index["preprocess"].update(size=-1)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_folder_is_refused_by_name(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    some_maps().save(tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError) as caught:
        Maps.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_reading_maps_needs_no_torch() -> None:
    code = "import sys, gyrus.maps; sys.exit(any(m in sys.modules for m in ('torch', 'matplotlib', 'gyrus.explain')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
