"""Write what in the chart is not written by hand: its schema, its README, and its copies of rules and dashboards.

``python -m helm.generate``
"""

from __future__ import annotations

import json
from pathlib import Path

from helm import readme, schema, values

HERE = Path(__file__).parent
CHART = HERE / "verify-factor-exporter"
GRAFANA = HERE.parent / "grafana"
RULES = {"rules.yaml": "verify-factor-exporter.rules.yaml", "watchdog.yaml": "watchdog.rules.yaml"}


def files() -> dict[Path, str]:
    """Return every generated file of the chart by its path below the chart."""
    sections = values.read((CHART / "values.yaml").read_text(encoding="utf-8"))
    template = (HERE / "README.template.md").read_text(encoding="utf-8")
    generated = {
        Path("values.schema.json"): json.dumps(schema.render(sections), indent=2, ensure_ascii=False) + "\n",
        Path("README.md"): readme.render(template, sections),
    }
    # Helm packs only what lies in the chart's own folder, and links to elsewhere don't survive every tool.
    for name, source in RULES.items():
        generated[Path("files") / name] = (GRAFANA / "rules" / source).read_text(encoding="utf-8")
    for dashboard in sorted((GRAFANA / "dashboards").glob("*.json")):
        generated[Path("files/dashboards") / dashboard.name] = dashboard.read_text(encoding="utf-8")
    return generated


def write() -> None:
    """Write them, and remove copies of dashboards that are no more."""
    generated = files()
    for path in (CHART / "files").rglob("*"):
        if path.is_file() and path.relative_to(CHART) not in generated:
            path.unlink()
    for path, text in generated.items():
        (CHART / path).parent.mkdir(parents=True, exist_ok=True)
        (CHART / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
