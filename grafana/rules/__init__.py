"""Recording and alert rules: the generator of the YAML beside it, the one source for Prometheus, chart and docs."""
