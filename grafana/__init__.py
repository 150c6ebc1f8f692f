"""What stands around the exporter in Prometheus and Grafana, and the generators that write it."""
