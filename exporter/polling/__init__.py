"""When to look at each factor, and what is known of it since when."""
