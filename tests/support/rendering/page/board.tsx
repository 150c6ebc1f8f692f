// A dashboard's JSON as a scene of Grafana's library.
import {
  AdHocFiltersVariable, behaviors, CustomVariable, dataLayers, DataSourceVariable, EmbeddedScene, QueryVariable,
  SceneControlsSpacer, SceneDataLayerControls, SceneDataLayerSet, SceneDataTransformer, SceneGridItem,
  SceneGridLayout, SceneGridRow, SceneObjectBase, SceneQueryRunner, SceneTimePicker,
  SceneTimeRange, SceneVariableSet, TextBoxVariable, ConstantVariable, VariableValueSelectors, VizPanel,
} from '@grafana/scenes';
import { ToolbarButton } from '@grafana/ui';
import React from 'react';

function variable(json: any) {
  const common = { name: json.name, label: json.label, description: json.description, hide: json.hide };
  const current = { value: json.current?.value ?? '', text: json.current?.text ?? '' };
  const many = { isMulti: json.multi, includeAll: json.includeAll, allValue: json.allValue };
  switch (json.type) {
    case 'datasource':
      return new DataSourceVariable({ ...common, pluginId: json.query, value: 'prometheus', text: 'Prometheus' } as any);
    case 'query':
      return new QueryVariable({
        ...common, ...current, ...many,
        datasource: json.datasource, query: json.query, refresh: json.refresh, sort: json.sort,
        regex: json.regex ?? '', defaultToAll: Boolean(json.includeAll), allowCustomValue: json.allowCustomValue,
      } as any);
    case 'custom':
      return new CustomVariable({ ...common, ...current, ...many, query: json.query } as any);
    case 'textbox':
      return new TextBoxVariable({ ...common, value: String(current.value) } as any);
    case 'constant':
      return new ConstantVariable({ ...common, value: json.query } as any);
    case 'adhoc':
      return new AdHocFiltersVariable({
        ...common, datasource: json.datasource, applyMode: 'auto', layout: 'combobox',
        filters: json.filters ?? [], baseFilters: json.baseFilters ?? [],
      } as any);
    default:
      throw new Error(`no variable of the type ${json.type}`);
  }
}

function panel(json: any) {
  const queries = new SceneQueryRunner({
    datasource: json.datasource,
    queries: json.targets ?? [],
    minInterval: json.interval,
    maxDataPoints: json.maxDataPoints,
    maxDataPointsFromWidth: json.maxDataPoints === undefined,
    dataLayerFilter: { panelId: json.id },
  });
  const data = json.transformations?.length
    ? new SceneDataTransformer({ $data: queries, transformations: json.transformations })
    : queries;
  const body = new VizPanel({
    key: `panel-${json.id}`,
    title: json.title,
    description: json.description,
    pluginId: json.type,
    pluginVersion: json.pluginVersion,
    options: json.options ?? {},
    fieldConfig: structuredClone(json.fieldConfig ?? { defaults: {}, overrides: [] }),
    displayMode: json.transparent ? 'transparent' : 'default',
    hoverHeader: !json.title,
    $data: data,
  });
  const { x, y, w: width, h: height } = json.gridPos;
  return new SceneGridItem({ key: `item-${json.id}`, x, y, width, height, body });
}

/** Grid items and rows, in order; the panels after an open row belong to it, a collapsed one has its own. */
function items(panels: any[], expanded: boolean) {
  const found: Array<SceneGridItem | SceneGridRow> = [];
  let row: SceneGridRow | null = null;
  let down = 0; // how far the rows that are expanded here move the panels below them
  for (const json of panels) {
    const placed = { ...json, gridPos: { ...json.gridPos, y: json.gridPos.y + down } };
    if (json.type !== 'row') {
      const item = panel(placed);
      row ? row.setState({ children: [...row.state.children, item] }) : found.push(item);
      continue;
    }
    const inside = json.panels ?? [];
    const top = Math.min(...inside.map((one: any) => one.gridPos.y));
    const shift = inside.length ? placed.gridPos.y + 1 - top : 0;
    row = new SceneGridRow({
      title: json.title,
      x: 0,
      y: placed.gridPos.y,
      isCollapsed: Boolean(json.collapsed) && !expanded,
      children: inside.map((one: any) => panel({ ...one, gridPos: { ...one.gridPos, y: one.gridPos.y + shift } })),
    });
    found.push(row);
    if (inside.length && expanded) {
      down += Math.max(...inside.map((one: any) => one.gridPos.y + one.gridPos.h)) - top;
    }
  }
  return found;
}

class Links extends SceneObjectBase<any> {
  static Component = ({ model }: any) =>
    model.useState().titles.map((title: string) => (
      <ToolbarButton key={title} icon="external-link-alt" variant="canvas" isOpen={false}>
        {title}
      </ToolbarButton>
    ));
}

/** Return the scene of a dashboard. All its rows are open if `expanded`. */
export function board(json: any, expanded: boolean) {
  const layers = json.annotations.list
    .filter((one: any) => one.expr)
    .map((one: any) => new dataLayers.AnnotationsDataLayer({
      name: one.name, isEnabled: one.enable, isHidden: one.hide, query: one,
    }));
  return new EmbeddedScene({
    $timeRange: new SceneTimeRange({ ...json.time, timeZone: 'utc' }),
    $variables: new SceneVariableSet({ variables: json.templating.list.map(variable) }),
    $data: new SceneDataLayerSet({ layers }),
    $behaviors: [new behaviors.CursorSync({ sync: json.graphTooltip })],
    controls: [
      new VariableValueSelectors({}),
      new SceneDataLayerControls(),
      new SceneControlsSpacer(),
      new Links({ titles: json.links.map((link: any) => link.title) }),
      new SceneTimePicker({}),
    ],
    body: new SceneGridLayout({ children: items(json.panels, expanded), isDraggable: false, isResizable: false }),
  });
}
