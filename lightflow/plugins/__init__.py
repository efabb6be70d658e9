"""Task types: the two built-in types, and those of plugin files and packages."""
