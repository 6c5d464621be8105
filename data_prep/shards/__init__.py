"""Writing shards, their side indices and the summary of a set."""
