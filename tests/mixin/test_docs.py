"""docs/prometheus.md shows how to use the mixin: its example works, and names the repository's address."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from grafana.jsonnet.__main__ import FOLDER
from tests.support.dashboards.files import PATHS
from tests.support.jsonnet import evaluated
from tools.release.repository import repository

PAGE = (Path(__file__).parents[2] / "docs" / "prometheus.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("\n## With jsonnet\n")[2].partition("\n## ")[0]
(EXAMPLE,) = re.findall(r"```jsonnet\n(.*?)```", SECTION, re.DOTALL)
# As jsonnet-bundler names it below vendor/.
NAME = f"{repository().removeprefix('https://')}/grafana/mixin"


def test_the_address_is_that_of_the_repository() -> None:
    assert f"jb install {NAME}@main\n" in SECTION
    assert f"import '{NAME}/mixin.libsonnet'" in EXAMPLE
    assert SECTION.count(repository().removeprefix("https://")) == 2


def test_the_example_does_what_it_says(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / NAME)
    written = evaluated(EXAMPLE, tmp_path)
    assert set(written) == {"rules.json", *(path.name for path in PATHS)}
    groups = written["rules.json"]["groups"]
    rules = {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}
    assert rules["TwilioVerifyExporterDown"]["expr"].count('up{job="twilio-verify"}') == 1
    for name, rule in rules.items():
        assert rule["annotations"]["runbook_url"] == f"https://wiki.example.org/runbooks/{name}.md"
        assert rule["annotations"]["dashboard_url"].startswith("https://grafana.example.org/d/")
    assert rules["TwilioVerifyDataStale"]["for"] == "1h"
    assert rules["TwilioVerifyDataStale"]["labels"] == {"severity": "critical"}
    assert "TwilioVerifyWatchdog" in rules
    assert "TwilioVerifyOverBudget" not in rules
    assert any("record" in rule for group in groups for rule in group["rules"])
