"""Generate the chart's schema, README, and copies of rules and dashboards: ``python -m helm.generate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from helm import keys, readme, schema, values

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
CHART = HERE / "verify-factor-exporter"
GRAFANA = HERE.parent / "grafana"
RULES = {
    "rules.yaml": "verify-factor-exporter.rules.yaml",
    "unused-passkeys.yaml": "unused-passkeys.rules.yaml",
    "watchdog.yaml": "watchdog.rules.yaml",
}


def files() -> dict[Path, str]:
    """Return the content of every generated file by its path in the chart."""
    sections = values.read((CHART / "values.yaml").read_text(encoding="utf-8"))
    template = (HERE / "README.template.md").read_text(encoding="utf-8")
    alerts = list(alert_names())
    editors = schema.render(sections, alerts)
    generated = {
        Path("values.schema.json"): json.dumps(editors, indent=1, ensure_ascii=False) + "\n",
        Path("files/keys.json"): keys.document(schema.strict(sections, alerts)),
        Path("README.md"): readme.render(template, sections),
    }
    # Helm packages only files inside the chart's folder, and not every tool follows symbolic links.
    for name, source in RULES.items():
        generated[Path("files") / name] = (GRAFANA / "rules" / source).read_text(encoding="utf-8")
    for dashboard in sorted((GRAFANA / "dashboards").glob("*.json")):
        generated[Path("files/dashboards") / dashboard.name] = dashboard.read_text(encoding="utf-8")
    return generated


def alert_names() -> Iterator[str]:
    """Yield the name of every alert, including the optional ones."""
    for source in RULES.values():
        for group in yaml.safe_load((GRAFANA / "rules" / source).read_text(encoding="utf-8"))["groups"]:
            yield from (rule["alert"] for rule in group["rules"] if "alert" in rule)


def write() -> None:
    """Write the generated files, and remove copies whose source no longer exists."""
    generated = files()
    for path in (CHART / "files").rglob("*"):
        if path.is_file() and path.relative_to(CHART) not in generated:
            path.unlink()
    for path, text in generated.items():
        (CHART / path).parent.mkdir(parents=True, exist_ok=True)
        (CHART / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
