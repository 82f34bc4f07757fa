"""Grad-CAM maps and what they are worth."""
