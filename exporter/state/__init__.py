"""The state file: what is known of the factors survives a restart, with its real age."""
