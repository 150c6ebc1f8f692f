"""Programs from outside PyPI, driven by tests."""
