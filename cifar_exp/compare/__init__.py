"""Finds runs, lays them side by side and says whether their differences mean anything; nothing here needs torch."""
