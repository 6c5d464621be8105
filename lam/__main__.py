"""``python -m lam`` does what ``lam`` does."""

from lam.cli import main

if __name__ == "__main__":
    main()
