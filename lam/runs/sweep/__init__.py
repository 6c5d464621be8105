"""Sweeps: rows of a table made side by side, and knobs searched for that reach a level of gap closed."""
