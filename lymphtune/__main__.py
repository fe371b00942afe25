"""`python -m lymphtune` is the command `lymphtune`."""

import sys

from lymphtune.cli import main

if __name__ == "__main__":
    sys.exit(main())
