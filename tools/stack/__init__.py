"""The demo beside a real Prometheus and Alertmanager."""
