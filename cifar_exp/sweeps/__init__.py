"""Sweeps: their jobs, records, estimates and searches."""

RECORD = "sweep.json"  # in a sweep's directory: its overrides and jobs
STOP_MARK = ".stopped"  # beside it: start no further job
