"""What is wrong with some data: copies, leaks, shortcuts, contradicting labels and unusable pictures, one by one."""

from __future__ import annotations

from gyrus.audit.run import CHECKS, audit_data

__all__ = ["CHECKS", "audit_data"]
