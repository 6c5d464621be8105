"""Statistics of a report: runs, rows, intervals and paired tests."""
