"""The environment of the page templates in templates/.

Apart from the pages because an exporter whose pages nobody opens doesn't need Jinja, which takes long to import.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from exporter import __version__
from exporter.polling.status_history import KEPT_SECONDS, MOST_CHANGES
from exporter.web import views
from exporter.web.formatting import format_age, format_count, format_iso, format_latency, format_time
from exporter.web.groups import SHARED, TILES, group_of_label, label_of
from exporter.web.selection import LONGEST_LABELS, LONGEST_TEXT, SORTS, STATES
from exporter.web.status_bar import HEIGHT, WIDTH

REFRESH_SECONDS = 10


def page_templates() -> Environment:
    """Return the environment with its filters and global names."""
    environment = Environment(
        loader=PackageLoader("exporter.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,  # an upgrade replaces the files below the running process
    )
    environment.filters.update(
        time=format_time, iso=format_iso, age=format_age, latency=format_latency, number=format_count
    )
    environment.globals.update(
        version=__version__,
        refresh_seconds=REFRESH_SECONDS,
        state_labels=views.STATE_LABELS,
        states=STATES,
        tiles=TILES,
        sorts=SORTS,
        attention=views.ATTENTION,
        shared=SHARED,
        group_of_label=group_of_label,
        label_of=label_of,
        longest_text=LONGEST_TEXT,
        longest_labels=LONGEST_LABELS,
        bar_size=(WIDTH, HEIGHT),
        kept_days=round(KEPT_SECONDS / 86_400),
        most_changes=MOST_CHANGES,
    )
    return environment
