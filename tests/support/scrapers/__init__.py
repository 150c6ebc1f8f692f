"""What is served to scrapers, and the scrapers that can be run."""
