"""Inspection of a source before anything is written."""
