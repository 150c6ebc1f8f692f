"""Recording and alert rules, the single source for the YAML files, the Helm chart and docs/alerts.md.

Alerts about single factors are in factors.py; about services, entities and accounts in services.py; about
enrolments and the use of factors in enrolments.py; about the exporter, its watchlist and shards in exporters.py.
Runbooks are in docs/runbooks/. After a change, run ``python -m grafana.rules`` and then
``python -m helm.generate``.
"""
