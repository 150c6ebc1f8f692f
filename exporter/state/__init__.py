"""The state file: knowledge that outlives a restart, with its real age."""
