"""The version of both packages: they ship as one distribution."""

__version__ = "0.1.0"
