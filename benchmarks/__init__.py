"""Measurements: ratios of the same work done in several ways, side by side in one run."""
