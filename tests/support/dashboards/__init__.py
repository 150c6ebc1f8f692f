"""The dashboards, taken apart."""
