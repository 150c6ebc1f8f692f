"""What the exporter serves: metrics, status, health."""
