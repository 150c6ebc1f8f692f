"""A simple exporter: the requests library in a loop, and gauges of prometheus_client.

Takes a CSV file of factors, a base URL, a CA file, user name, password, port, and the seconds per round.
"""

from __future__ import annotations

import csv
import sys
import time

import requests
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

_LABELS = ("account", "service_sid", "factor")


def main() -> None:
    """Fetch every factor once per round, indefinitely."""
    list_file, base_url, ca_file, username, password, port, seconds = sys.argv[1:]
    registry = CollectorRegistry()
    verified = Gauge("factor_verified", "1 verified", _LABELS, registry=registry)
    exists = Gauge("factor_exists", "1 exists", _LABELS, registry=registry)
    up = Gauge("factor_up", "1 answered", _LABELS, registry=registry)
    duration = Gauge("factor_fetch_duration_seconds", "Duration", _LABELS, registry=registry)
    success = Gauge("factor_last_success_timestamp_seconds", "Time", _LABELS, registry=registry)
    failures = Counter("factor_fetch_failures", "Failures", _LABELS, registry=registry)
    fetches = Counter("fetches", "Fetches", registry=registry)
    with open(list_file, encoding="utf-8", newline="") as file:  # noqa: PTH123 - deliberately simple
        factors = list(csv.DictReader(file))
    start_http_server(int(port), addr="127.0.0.1", registry=registry)
    session = requests.Session()
    session.auth, session.verify, session.trust_env = (username, password), ca_file, False
    while True:
        round_began = time.monotonic()
        for factor in factors:
            labels = ("main", factor["service_sid"], factor["name"])
            url = f"{base_url}/v2/Services/{factor['service_sid']}/Entities/{factor['identity']}/Factors/"
            began = time.monotonic()
            try:
                answer = session.get(url + factor["factor_sid"], timeout=10)
                exists.labels(*labels).set(answer.status_code != 404)
                if answer.status_code == 200:
                    verified.labels(*labels).set(answer.json()["status"] == "verified")
                up.labels(*labels).set(1)
                success.labels(*labels).set_to_current_time()
            except (requests.RequestException, ValueError, KeyError):
                up.labels(*labels).set(0)
                failures.labels(*labels).inc()
            duration.labels(*labels).set(time.monotonic() - began)
            fetches.inc()
        time.sleep(max(0.0, float(seconds) - (time.monotonic() - round_began)))


if __name__ == "__main__":
    main()
