"""Cases for the alert rules."""
