"""Devices, memory, seeds."""
