"""promtool test cases for the alert rules, and mutants of the rules."""
