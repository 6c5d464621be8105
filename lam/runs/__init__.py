"""Runs: their folders, provenance, checkpoints and results, and the command lines that make them."""
