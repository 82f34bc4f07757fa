"""Finds and compares runs, and tests whether their differences are significant; nothing here needs torch."""
