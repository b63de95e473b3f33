"""The command line: one short file per verb, each parses, calls the library and shows the result."""
