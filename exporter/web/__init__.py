"""What the exporter serves over HTTP: metrics, pages, API, probes, health; ``server`` is the web server below.

Where to change what:

- a page's text: templates/ (shared texts: templates/macros.html; script: static/page.js)
- a status word or its meaning, the hint for an account: views.py (the hint for a failed fetch: verify/outcome.py)
- which factors a page lists, sort orders, query parameters of a page: selection.py
- which numbers tiles and groups show, how factors can be grouped: groups.py; the filter ``label``: labelfilter.py
- an API field: its value in views.py, its meaning in openapi.py; then run
  `python -m tools.reference.api > docs/api.md`
- an API path: api.py and openapi.py; how parameters are read and refused: parameters.py
- which hosts a request for ``/probe``, ``/-/reload`` or ``/-/log-level`` may name: hosts.py
- a PromQL query on a factor's page: promql.py; its plot: plot.py; its fetches: history.py; "Check now": check.py
- links to other systems: links.py (their templates: ``parse_link_template`` in config/addresses.py)
- ``/metrics`` and the list of all paths: routes.py; which format a scrape gets: negotiation.py
- ``/probe``: probe.py; ``/config``: running_config.py; ``/-/reload``, ``/-/log-level``: lifecycle.py;
  ``/-/healthy``, ``/-/ready``: health.py; ``/-/verified``: verified.py
- an error response: the module of its path; those of every path (401, 413, 429, 503): server/gate.py
- what these modules see of the daemon: exporter_view.py
"""
