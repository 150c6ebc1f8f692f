"""What the tests share, named for what it is."""
