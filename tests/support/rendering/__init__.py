"""The boards as Grafana's own libraries render them, over a real Prometheus, in situations that people meet.

``situations`` lets the exporter live through hours in virtual time, against the simulator. ``history`` turns its
scrapes, and what the rules make of them, into blocks of a Prometheus. ``page`` has the page that renders a board,
built from npm packages, and ``boards`` reads what it shows. To look at a board yourself::

    python -m tests.support.rendering overview api-down --picture /tmp/board.png
"""
