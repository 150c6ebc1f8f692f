"""What survives a restart: the state file, with the real age of what is known, and the last good watchlist."""
