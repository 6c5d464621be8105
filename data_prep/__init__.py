"""Data preparation: turns videos, robot data and generated worlds into shards."""
