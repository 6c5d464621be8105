"""``python -m lam.control``: see ``lam.control.cli``."""

import os
import sys

from lam.control.cli import run
from lam.runs.cli import hush

if __name__ == "__main__":
    hush()
    try:
        run()
    except (ValueError, OSError) as error:
        if os.environ.get("LAM_TRACEBACK"):
            raise
        sys.exit(f"lam.control: error: {str(error).strip().splitlines()[-1]}")
