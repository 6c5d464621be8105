"""``python -m lam.encoders.autoencoder fit``: trains an autoencoder for the states of an experiment."""

import sys

from jsonargparse import ArgumentError

from lam.encoders.autoencoder.training import run

if __name__ == "__main__":
    try:
        run()
    except (ValueError, OSError, ArgumentError) as error:
        sys.exit(f"autoencoder: error: {str(error).strip().splitlines()[-1]}")
