"""Releases: repository.py sets the account that links lead to, files.py lists the files of the project."""
