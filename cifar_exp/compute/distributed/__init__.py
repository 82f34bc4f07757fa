"""Distributed runs: one run in several processes that torchrun started."""
