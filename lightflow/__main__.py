"""`python -m lightflow` runs the command line."""

from lightflow.start import main

if __name__ == "__main__":
    main()
