"""Sweeps: their jobs, records, estimates and searches."""

RECORD = "sweep.json"  # in a sweep's directory: what was asked for, and its jobs
STOP_MARK = ".stopped"  # beside it: no further job is to start
