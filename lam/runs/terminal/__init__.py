"""What a person types and sees in the terminal: the parser of settings, the progress of a run, hints, and how it ended."""
