"""Grad-CAM maps and the test of their faithfulness."""
