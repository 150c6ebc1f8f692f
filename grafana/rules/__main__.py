"""Generate the Prometheus rules; with the default folder, also the tables of docs/alerts.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from grafana.rules.model import Settings
from grafana.rules.reference import filled
from grafana.rules.render import files

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "alerts.md"


def main() -> None:
    """Write the rules files."""
    defaults = Settings()
    parser = argparse.ArgumentParser(prog="python -m grafana.rules", description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument(
        "--dropped",
        default=",".join(defaults.dropped),
        metavar="LABEL,…",
        help="labels that identify a process rather than what it watches",
    )
    parser.add_argument("--job", default=defaults.job, help="job name of the exporter's targets")
    parser.add_argument("--runbooks", default=defaults.runbooks, metavar="URL", help="base URL of the runbooks")
    parser.add_argument("--dashboards", default=defaults.dashboards, metavar="URL", help="base URL of Grafana")
    options = parser.parse_args()
    settings = Settings(
        dropped=tuple(label.strip() for label in options.dropped.split(",")),
        job=options.job,
        runbooks=options.runbooks.rstrip("/"),
        dashboards=options.dashboards.rstrip("/"),
    )
    for name, text in files(settings).items():
        (options.output / name).write_text(text, encoding="utf-8")
    if options.output == HERE:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), settings), encoding="utf-8")


if __name__ == "__main__":
    main()
