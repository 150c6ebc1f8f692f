"""Benchmarks: the same work done in several ways, side by side in one run, compared as ratios."""
