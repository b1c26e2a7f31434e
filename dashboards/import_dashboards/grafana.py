"""Makes a dashboard's JSON with Grafana's own SDK."""

from __future__ import annotations

import itertools
import json

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    DataSourceRef,
    GraphThresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
)

from import_dashboards.model import BLUE, GREEN, Board, Panel, Query

TAG = "imports"
_SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
_NUMBER_CHARACTERS = "ABCDEFGHIJ"


def dashboard_json(board: Board) -> str:
    """The dashboard as Grafana imports it."""
    made = (
        dashboard.Dashboard(board.title)
        .uid(f"imports-{board.name}")
        .description(board.answers)
        .tags([TAG])
        .timezone("utc")
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(dashboard.DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(_namespaces())
        .link(
            dashboard.DashboardLink("Imports")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(True)
        )
    )
    # A link to a panel names its number.
    numbers = itertools.count(1)
    for row in board.rows:
        made = made.with_row(dashboard.Row(row.title).id(next(numbers)))
        for panel in row.panels:
            drawn = _number(panel) if panel.kind == "number" else _lines(panel)
            made = made.with_panel(drawn.id(next(numbers)))
    return json.dumps(made.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def _namespaces() -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable("namespace")
        .label("Namespace")
        .datasource(_SOURCE)
        .query("label_values(imports_build_info, namespace)")
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _number(panel: Panel) -> stat.Panel:
    made = (
        stat.Panel()
        .title(panel.title)
        .description(panel.meaning)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(panel.height)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.AREA)
        .text_mode(BigValueTextMode.AUTO)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(panel, GREEN))
        .no_value("nothing measured")
    )
    if panel.decimals is not None:
        made = made.decimals(panel.decimals)
    if panel.words:
        texts = {
            str(value): ValueMappingResult(text=text, color=colour, index=index)
            for index, (value, (text, colour)) in enumerate(panel.words.items())
        }
        made = made.mappings([ValueMap(options=texts)])
    for position, query in enumerate(panel.queries):
        made = made.with_target(_target(query, position))
    return made


def _lines(panel: Panel) -> timeseries.Panel:
    made = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.meaning)
        .datasource(_SOURCE)
        .unit(panel.unit)
        .span(panel.width)
        .height(panel.height)
        .min(0)
        .line_width(1.5)
        .fill_opacity(25 if panel.kind == "stack" else 5)
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        # The SDK's default is a hidden one.
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
        )
    )
    if panel.maximum is not None:
        made = made.max(panel.maximum)
    if panel.kind == "stack":
        made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL))
    if panel.thresholds:
        style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.DASHED)
        made = made.thresholds(_thresholds(panel, BLUE)).thresholds_style(style)
    for position, query in enumerate(panel.queries):
        made = made.with_target(_target(query, position))
    return made


def _thresholds(panel: Panel, ordinary: str) -> dashboard.ThresholdsConfig:
    steps = [Threshold(value=None, color=ordinary)]
    steps += [Threshold(value=value, color=colour) for value, colour in panel.thresholds]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


def _target(query: Query, position: int) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .ref_id(_NUMBER_CHARACTERS[position])
        .datasource(_SOURCE)
        .expr(query.expression)
        .legend_format(query.legend or "__auto")
        .range()
    )
