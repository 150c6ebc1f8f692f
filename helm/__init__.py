"""The Helm chart, and the generator of its schema, README, rules and dashboards.

Defaults and their descriptions are in verify-factor-exporter/values.yaml, checks of values in
verify-factor-exporter/templates/_checks.tpl. After a change, run ``python -m helm.generate``.
"""
