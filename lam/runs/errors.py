"""Errors that a person can mend."""

from __future__ import annotations


class SettingsError(ValueError):
    """Settings that cannot be understood."""
