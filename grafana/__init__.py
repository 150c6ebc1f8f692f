"""Files for Prometheus, Alertmanager and Grafana, and the generators of rules and dashboards.

An alert is defined in rules/ (factors.py, services.py, exporters.py), a panel in boards/ (overview.py, factor.py,
exporter.py). The generated YAML is in rules/, the generated JSON in dashboards/. jsonnet/ generates
the mixin in mixin/ from both. alertmanager/, prometheus/ and provisioning/ contain hand-written examples.
"""
