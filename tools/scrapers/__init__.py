"""Scrapers that aren't packages of Debian: sources, locks and small programs that run them."""
