"""Writes the files of rules: those of the repository with their documentation, or a site's own elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from grafana.rules.model import Settings
from grafana.rules.reference import filled
from grafana.rules.render import files

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "alerts.md"


def main() -> None:
    """Write the files."""
    usual = Settings()
    parser = argparse.ArgumentParser(prog="python -m grafana.rules", description=__doc__)
    parser.add_argument("--output", type=Path, default=HERE, metavar="FOLDER")
    parser.add_argument("--dropped", default=",".join(usual.dropped), metavar="LABEL,…", help="labels of a process")
    parser.add_argument("--job", default=usual.job, help="job of the exporter's targets")
    parser.add_argument("--runbooks", default=usual.runbooks, metavar="URL", help="where the runbooks are")
    parser.add_argument("--dashboards", default=usual.dashboards, metavar="URL", help="where Grafana is")
    given = parser.parse_args()
    settings = Settings(
        dropped=tuple(label.strip() for label in given.dropped.split(",")),
        job=given.job,
        runbooks=given.runbooks.rstrip("/"),
        dashboards=given.dashboards.rstrip("/"),
    )
    for name, text in files(settings).items():
        (given.output / name).write_text(text, encoding="utf-8")
    if given.output == HERE:
        PAGE.write_text(filled(PAGE.read_text(encoding="utf-8"), settings), encoding="utf-8")


if __name__ == "__main__":
    main()
