"""Builders for the panel types of the dashboards, each with a unit, a description and texts for its colours."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from grafana_foundation_sdk.builders import common as style
from grafana_foundation_sdk.builders import dashboard as build
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from grafana.boards.colours import NO_EVENTS, OF_NO_EVENTS
from grafana.boards.promql import increase
from grafana.boards.states import GOOD, PLAIN, UNKNOWN, unknown, words
from grafana.boards.variables import SOURCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.exposition.catalogue import Family
    from grafana.boards.states import Word

    AnyPanel = stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel | heatmap.Panel
    P = TypeVar("P", stat.Panel, statetimeline.Panel, table.Panel, timeseries.Panel, heatmap.Panel)

_MOST_IDS = 1_000_000
_SID_WIDTH = 305
# Of axes whose values are all 0, which Grafana would draw up to 100.
_SOFT_MAX = {"percentunit": 1.0, "s": 0.01, "reqps": 0.1, "ops": 0.1, "short": 1.0, "locale": 1.0, "bytes": 1e6}
# Grafana queries up to the last full step: with wider ones, the beginning of an outage would not be shown.
_BAR = "1m"

_WIDE = 12  # columns of 24

MOST_POINTS = 360  # for queries that read all factors: six hours in steps of a minute


class Query(NamedTuple):
    """An expression and the legend of its series."""

    expression: str
    legend: str = ""
    exemplars: bool = False


class Link(NamedTuple):
    """A data link of a value."""

    title: str
    url: str


class Column(NamedTuple):
    """A table column: its heading and the format of its cells."""

    heading: str
    unit: str = ""
    mappings: list[dashboard.ValueMapping] | None = None
    links: tuple[Link, ...] = ()
    width: int = 0
    decimals: int | None = None


def sid(heading: str) -> Column:
    """Return a column of SIDs, wide enough for all 34 characters."""
    return Column(heading, width=_SID_WIDTH)


def panel_id(title: str) -> int:
    """Return the id of a panel, derived from its title so that it stays the same when the panel moves."""
    return zlib.crc32(title.encode()) % _MOST_IDS


def one_value(
    title: str,
    description: str,
    expression: str,
    *,
    unit: str = "none",
    meanings: tuple[Word, ...] = (),
    steps: Iterable[tuple[float, str]] = (),
    base: str = PLAIN,
    legend: str = "",
    decimals: int | None = None,
) -> stat.Panel:
    """Return a stat panel with the latest value of each series, or "unknown"."""
    panel = (
        _common(stat.Panel(), title, description, [_query(Query(expression, legend), instant=True)])
        .unit(unit)
        .thresholds(_thresholds(base, steps))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(style.ReduceDataOptions().calcs(["lastNotNull"]))
        .text_mode(common.BigValueTextMode.AUTO if legend else common.BigValueTextMode.VALUE)
        .mappings([*(words(meanings) if meanings else ()), unknown()])
        .no_value(UNKNOWN)
    )
    if decimals is not None:
        panel.decimals(decimals)
    return panel


def one_text(title: str, description: str, expression: str, label: str) -> stat.Panel:
    """Return a stat panel that shows the value of a label, one text per series, or "unknown"."""
    query = _query(Query(expression), instant=True, form=PromQueryFormat.TABLE)
    return (
        _common(stat.Panel(), title, description, [query])
        .unit("none")
        .thresholds(_thresholds(PLAIN, ()))
        .color_mode(common.BigValueColorMode.VALUE)
        .graph_mode(common.BigValueGraphMode.NONE)
        .reduce_options(style.ReduceDataOptions().calcs(["lastNotNull"]).values(True).fields(f"/^{label}$/"))
        .text_mode(common.BigValueTextMode.VALUE)
        .mappings([unknown()])
        .no_value(UNKNOWN)
    )


def counted(family: Family, by: tuple[str, ...], legend: str, *matchers: str) -> tuple[Query, Query]:
    """Return the queries for a graph of events: how many per step by these labels, and the steps with none.

    Without the latter, a graph without events would look like one without samples.
    """
    of_all = increase(family, ())
    none = f"0 * {of_all} unless {increase(family, (), *matchers)} > 0" if matchers else f"{of_all} == 0"
    return Query(f"{increase(family, by, *matchers)} > 0", legend), Query(none, NO_EVENTS)


def graph(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    bars: bool = False,
    colours: Mapping[str, str] | None = None,
    shades: str = "",
) -> timeseries.Panel:
    """Return a time series graph that starts at 0; ``bars`` draws occasional events as stacked bars.

    ``colours`` are those of legends. Other series get shades of a colour, or the colours of Grafana's palette in
    turn: by name, two could get the same.
    """
    scheme = build.FieldColor().mode(dashboard.FieldColorModeId.PALETTE_CLASSIC)
    if shades:
        scheme = build.FieldColor().mode(dashboard.FieldColorModeId.SHADES).fixed_color(shades)
    of_none = {query.legend: OF_NO_EVENTS for query in queries if query.legend == NO_EVENTS}
    panel = (
        _common(timeseries.Panel(), title, description, [_query(query) for query in queries])
        .unit(unit)
        .min(0)
        .axis_soft_max(_SOFT_MAX[unit])
        .thresholds(_thresholds(GOOD, ()))
        .color_scheme(scheme)
        .show_points(common.VisibilityMode.NEVER)
        .span_nulls(False)
        .tooltip(style.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI).sort(common.SortOrder.DESCENDING))
    )
    if bars:
        panel.draw_style(common.GraphDrawStyle.BARS).fill_opacity(80).line_width(0)
        panel.stacking(style.StackingConfig().mode(common.StackingMode.NORMAL).group("A"))
        panel.interval(_BAR)
    else:
        panel.draw_style(common.GraphDrawStyle.LINE).fill_opacity(8).line_width(1)
    for name, colour in {**(colours or {}), **of_none}.items():
        fixed = {"mode": "fixed", "fixedColor": colour}
        panel.override_by_name(name, [dashboard.DynamicConfigValue(id_val="color", value=fixed)])
    return panel


def with_legend(panel: timeseries.Panel, width: int) -> timeseries.Panel:
    """Return a graph with a legend that shows all its entries.

    Beside a wide graph it has their last values, or how many events there were in the time range.
    """
    legend = style.VizLegendOptions().show_legend(True)
    if width < _WIDE:
        legend = legend.display_mode(common.LegendDisplayMode.LIST).placement(common.LegendPlacement.BOTTOM)
    else:
        legend = legend.display_mode(common.LegendDisplayMode.TABLE).placement(common.LegendPlacement.RIGHT)
        legend = legend.calcs(["sum" if _counts_events(panel) else "lastNotNull"])
    return panel.legend(legend)


def _counts_events(panel: timeseries.Panel) -> bool:
    fields = panel.build().field_config
    style_of = fields.defaults.custom if fields else None
    return isinstance(style_of, common.GraphFieldConfig) and style_of.draw_style is common.GraphDrawStyle.BARS


def timeline(
    title: str,
    description: str,
    query: Query,
    meanings: tuple[Word, ...],
    *,
    links: Iterable[Link] = (),
    none: str = "no data",
) -> statetimeline.Panel:
    """Return a state timeline, with twenty series per page in Grafana 11 and newer."""
    panel = (
        _common(statetimeline.Panel(), title, description, [_query(query)])
        .unit("none")
        .mappings(words(meanings))
        .thresholds(_thresholds(PLAIN, ()))
        .color_scheme(build.FieldColor().mode(dashboard.FieldColorModeId.THRESHOLDS))
        .merge_values(True)
        .show_value(common.VisibilityMode.AUTO)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .per_page(20)
        .max_data_points(MOST_POINTS)
        .tooltip(style.VizTooltipOptions().mode(common.TooltipDisplayMode.SINGLE))
        .legend(
            style.VizLegendOptions()
            .display_mode(common.LegendDisplayMode.LIST)
            .placement(common.LegendPlacement.BOTTOM)
            .show_legend(True)
        )
        .no_value(none)
    )
    return panel.data_links([build.DashboardLink(title).url(url) for title, url in links])


def rows(
    title: str,
    description: str,
    queries: Iterable[str],
    columns: Mapping[str, Column],
    *,
    hidden: Iterable[str] = (),
    sort: tuple[str, bool],
    then: tuple[tuple[str, bool], ...] = (),
    none: str = "no data",
) -> table.Panel:
    """Return a table of current values: the results of its queries merged by their labels.

    ``columns`` are in display order, keyed by label name, by ``Value #A`` for the result of the first of several
    queries, or by ``Value`` for a single query. Other labels follow. ``sort`` is a heading and whether to sort in
    descending order; ``then`` decides between equal values.
    """
    targets = [_query(Query(query), instant=True, form=PromQueryFormat.TABLE) for query in queries]
    order = {name: index for index, name in enumerate(columns)}
    excluded = dict.fromkeys(("Time", "__name__", *hidden), True)
    panel = (
        _common(table.Panel(), title, description, targets)
        .unit("none")
        .thresholds(_thresholds(PLAIN, ()))
        .cell_options(common.TableAutoCellOptions())
        .filterable(True)
        .transformations(
            [
                dashboard.DataTransformerConfig(id_val="merge", options={}),
                dashboard.DataTransformerConfig(
                    id_val="organize",
                    options={"excludeByName": excluded, "indexByName": order, "renameByName": {}},
                ),
            ]
        )
        .show_header(True)
        .cell_height(common.TableCellHeight.SM)
        .footer(style.TableFooterOptions().show(False).enable_pagination(True).reducer(["sum"]).count_rows(False))
        .sort_by(
            [style.TableSortByFieldState().display_name(by).desc(descending) for by, descending in (sort, *then)]
        )
        .no_value(none)
        # The text is for a table without rows: Grafana would also write it, with links, into each empty cell.
        .override_by_regexp("/.*/", [dashboard.DynamicConfigValue(id_val="noValue", value="")])
    )
    for name, column in columns.items():
        panel.override_by_name(name, _cell_format(column))
    return panel


def heat_map(title: str, description: str, unit: str, query: Query) -> heatmap.Panel:
    """Return a heatmap of a histogram's buckets over time."""
    return (
        _common(heatmap.Panel(), title, description, [_query(query, form=PromQueryFormat.HEATMAP)])
        .unit("reqps")
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(unit).axis_placement(common.AxisPlacement.LEFT).reverse(False))
        .rows_frame(heatmap.RowsHeatmapOptions().layout(common.HeatmapCellLayout.AUTO))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heat.HeatmapColorMode.SCHEME)
            .scheme("Blues")
            .exponent(0.5)
            .steps(64)
            .reverse(False)
        )
        .cell_values(heatmap.CellValues().unit("reqps"))
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .cell_gap(1)
        .show_legend()
        .mode(common.TooltipDisplayMode.SINGLE)
        .show_y_histogram()
        .show_color_scale(True)
    )


def _common(panel: P, title: str, description: str, queries: Iterable[prometheus.Dataquery]) -> P:
    panel.title(title).description(description).datasource(SOURCE).id(panel_id(title))
    panel.targets([query.ref_id(chr(ord("A") + index)) for index, query in enumerate(queries)])
    return panel


def _query(
    query: Query, *, instant: bool = False, form: PromQueryFormat = PromQueryFormat.TIME_SERIES
) -> prometheus.Dataquery:
    target = prometheus.Dataquery().datasource(SOURCE).expr(query.expression).format(form)
    target = target.instant() if instant else target.range()
    if query.legend:
        target.legend_format(query.legend)
    if query.exemplars:
        target.exemplar(True)
    return target


def _cell_format(column: Column) -> list[dashboard.DynamicConfigValue]:
    formats: dict[str, object] = {"displayName": column.heading}
    if column.unit:
        formats["unit"] = column.unit
    if column.mappings is not None:
        formats["mappings"] = column.mappings
        formats["custom.cellOptions"] = {"type": "color-text"}
        formats["custom.align"] = "left"  # texts, also where they stand for numbers
    if column.links:
        formats["links"] = [link._asdict() for link in column.links]
    if column.width:
        formats["custom.width"] = column.width
    if column.decimals is not None:
        formats["decimals"] = column.decimals
    return [dashboard.DynamicConfigValue(id_val=name, value=value) for name, value in formats.items()]


def _thresholds(base: str, steps: Iterable[tuple[float, str]]) -> build.ThresholdsConfig:
    return (
        build.ThresholdsConfig()
        .mode(dashboard.ThresholdsMode.ABSOLUTE)
        .steps(
            [
                dashboard.Threshold(value=None, color=base),
                *(dashboard.Threshold(value=value, color=colour) for value, colour in steps),
            ]
        )
    )
