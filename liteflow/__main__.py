"""`python3 -m liteflow`: works in a bare clone, without an installation."""

import sys

from liteflow.cli import main

if __name__ == "__main__":
    sys.exit(main(prog="python3 -m liteflow"))
