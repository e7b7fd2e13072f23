"""The model that comes with the package, so that a picture can be classified with nothing trained and no connection.

``champion/train.py`` makes it from public data; its card says on what, and what was measured.
"""

from __future__ import annotations

from pathlib import Path

DEFAULT = "gyrus-base"
_HERE = Path(__file__).parent


def list_shipped() -> list[str]:
    """Return the names of the models in the package."""
    return sorted(p.parent.name for p in _HERE.glob("*/model.json"))


def find_model(place: Path | None) -> Path:
    """Return where a model lies.

    Args:
        place: a model's folder, a run, or the name of a model in the package, which a folder of that name goes before;
            None is :data:`DEFAULT`.
    """
    named = Path(DEFAULT) if place is None else place
    shipped = _HERE / named
    known = len(named.parts) == 1 and (shipped / "model.json").is_file()
    return shipped if known and not (place is not None and place.exists()) else named
