"""Acting with parts replaced by the truth: all of them (oracle), or one at a time, which says what success is lost to."""
