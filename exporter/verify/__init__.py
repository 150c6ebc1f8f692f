"""The Verify API as this exporter uses it: what is asked, what is answered, and what an account may spend."""
