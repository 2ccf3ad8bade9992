"""The worlds of the command line, each a value named like its file."""
