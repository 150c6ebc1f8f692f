"""Runs tests on the interpreters and against the scrapers that people have; writes docs/compatibility.md."""
