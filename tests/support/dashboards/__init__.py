"""Reading and linting the dashboard files."""
