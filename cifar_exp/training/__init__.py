"""Optimizers, schedules, epochs, savepoints."""
