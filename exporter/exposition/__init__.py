"""From what is known to what is scraped."""
