"""The phantom: a synthetic T1 contrast-enhanced dataset with exact masks, for demos and tests."""

from __future__ import annotations

from gyrus.phantom.writer import make_phantom

__all__ = ["make_phantom"]
