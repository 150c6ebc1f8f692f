"""The Grafana dashboards, built from the catalogue of metrics; ``python -m grafana.boards`` writes them."""
