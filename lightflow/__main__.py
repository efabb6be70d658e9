"""`python -m lightflow` is the same as `lightflow`."""

from lightflow.start import main

if __name__ == "__main__":
    main()
