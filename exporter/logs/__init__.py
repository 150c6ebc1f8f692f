"""The log: its format, and what keeps it quiet during an outage."""
