"""Rendering the Helm chart and validating the result."""
