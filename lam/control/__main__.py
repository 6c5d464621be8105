"""``python -m lam.control``: see ``lam.control.cli``."""

import os
import sys

from lam.control.cli import run
from lam.runs.cli import filter_known_warnings

if __name__ == "__main__":
    filter_known_warnings()
    try:
        run()
    except (ValueError, OSError) as error:
        if os.environ.get("LAM_TRACEBACK"):
            raise
        sys.exit(f"lam.control: error: {str(error).strip().splitlines()[-1]}")
