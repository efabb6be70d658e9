"""`python -m lightflow` is the same as `lightflow`."""

from lightflow.cli.main import main

if __name__ == "__main__":
    main()
