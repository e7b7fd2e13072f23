"""One self-contained HTML page per run: figures, tables, and the slices behind them. No torch here."""

from __future__ import annotations

from gyrus.report.build import write_report

__all__ = ["write_report"]
