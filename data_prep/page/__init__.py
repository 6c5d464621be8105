"""A page that shows finished shards."""
