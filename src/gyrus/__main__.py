"""``python -m gyrus`` is the ``gyrus`` command."""

from __future__ import annotations

from gyrus.cli import main

if __name__ == "__main__":
    main()
