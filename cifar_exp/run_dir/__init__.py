"""Run directories: layout, tables, status, checkpoints and environment; how they are read."""
