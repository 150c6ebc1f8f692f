"""What the exporter is measured beside: how others do the same work."""
