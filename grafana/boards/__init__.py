"""The Grafana dashboards, built from the catalogue of metrics.

Panels are in overview.py, factor.py and exporter.py, one module per dashboard; health.py has the panels that two of
them share. panels.py builds panel types, promql.py expressions, states.py value texts and colours, variables.py
variables and annotations, source.py the type of data source, board.py the JSON. After a change, run
``python -m grafana.boards`` and then ``python -m helm.generate``.
"""
