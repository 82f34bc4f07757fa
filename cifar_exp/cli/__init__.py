"""The command line: ``main``, one module per command, and Hydra's application."""
