"""The command line: the entry point, one module per command, and Hydra's application."""
