"""Programs from outside PyPI that tests run."""
