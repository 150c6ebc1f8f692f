"""Prometheus exporter for the status of Twilio Verify factors."""

__version__ = "0.1.0"
__revision__ = ""
