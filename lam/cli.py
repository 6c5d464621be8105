"""The front door: ``lam``."""

from lam.runs.cli import main as main
