"""Sweeps: their jobs, records, estimates and searches."""
