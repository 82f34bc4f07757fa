"""Metrics, test-time augmentation and statistics."""
