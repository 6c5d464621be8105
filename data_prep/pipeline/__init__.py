"""The pipeline from a source to a finished set of shards."""
