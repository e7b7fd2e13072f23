"""The ``gyrus`` command, and ``python -m gyrus``."""

from __future__ import annotations

from gyrus.processor import sort_by_avx2


def main() -> None:
    """Run the command line."""
    sort_by_avx2()
    from gyrus import cli  # which loads NumPy

    cli.main()


if __name__ == "__main__":
    main()
