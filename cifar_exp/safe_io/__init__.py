"""Atomic writes, reads of untrusted files, the console."""
