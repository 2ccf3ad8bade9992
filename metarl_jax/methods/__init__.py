"""The methods of the command line, each a value named like its file or beside it."""
