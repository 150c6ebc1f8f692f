"""The life of an exporter: start, jobs, reload, drain, stop."""
