"""Task types: those that are built in, and those of plugin files and packages."""
