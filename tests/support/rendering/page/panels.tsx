// Panel plugins on the components of Grafana's libraries. State timeline and heatmap are not among its Apache-2.0
// packages: they are drawn here, with the library's values, colours, legends and pages.
import {
  cacheFieldDisplayNames, dateTimeFormat, FieldColorModeId, getDisplayValueAlignmentFactors, getFieldDisplayValues,
  identityOverrideProcessor, PanelPlugin, VizOrientation, type DataFrame, type PanelProps,
} from '@grafana/data';
import {
  BigValue, Pagination, TimeSeries, TooltipPlugin2, usePanelContext, useTheme2, VizLayout, VizLegend, VizRepeater,
} from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { interpolateBlues } from 'd3-scale-chromatic';
import React from 'react';

const AXIS_HEIGHT = 24;
const PAGES_HEIGHT = 40;
const TICKS = 6;
const HIDDEN = { tooltip: false, viz: false, legend: false };

/** What a panel shows without data. */
function Empty({ fieldConfig, width, height }: PanelProps<any>) {
  const centred = { display: 'flex', alignItems: 'center', justifyContent: 'center', textAlign: 'center' } as const;
  return (
    <div data-empty style={{ ...centred, width, height, opacity: 0.7 }}>
      {fieldConfig?.defaults?.noValue ?? 'No data'}
    </div>
  );
}

/** Show nothing but the message if no frame has a row. */
const unlessEmpty = (View: React.FC<PanelProps<any>>) => (props: PanelProps<any>) => {
  cacheFieldDisplayNames(props.data.series);
  return props.data.series.some((frame) => frame.length) ? <View {...props} /> : <Empty {...props} />;
};

/** A panel plugin; `defaults` are its own field options. */
function plugin(id: string, view: React.FC<any>, defaults: Record<string, unknown>, colours?: FieldColorModeId) {
  const made: PanelPlugin<any, any> = new PanelPlugin(view).useFieldConfig({
    standardOptions: (colours ? { color: { defaultValue: { mode: colours } } } : {}) as any,
    useCustomConfig: (builder: any) => {
      for (const [name, defaultValue] of Object.entries(defaults)) {
        builder.addCustomEditor({
          id: name, path: name, name, defaultValue, process: identityOverrideProcessor,
          editor: () => null, override: () => null, shouldApply: () => true,
        });
      }
    },
  });
  const author = { name: '' };
  const info = { version: '', logos: { small: '', large: '' }, author, links: [], screenshots: [], updated: '', description: '' };
  made.meta = { id, name: id, type: 'panel', info, module: '', baseUrl: '', sort: 0 } as any;
  return made;
}

const finite = (frame: DataFrame): DataFrame => ({
  ...frame,
  fields: frame.fields.map((field) =>
    field.type === 'number' ? { ...field, values: field.values.map((v: any) => (Number.isFinite(v) ? v : null)) } : field
  ),
});

/** Draw the annotations of a panel: a line, or an area with two. */
function drawEvents(plot: any, frames: DataFrame[], theme: any) {
  const { top, left, width, height } = plot.bbox;
  const { ctx } = plot;
  for (const frame of frames) {
    const column = (name: string) => frame.fields.find((field) => field.name === name)?.values ?? [];
    const [times, ends, colours] = [column('time'), column('timeEnd'), column('color')];
    times.forEach((time: number, index: number) => {
      const end = Math.max(time, ends[index] ?? time);
      const [from, to] = [plot.valToPos(time, 'x', true), plot.valToPos(end, 'x', true)];
      if (to < left || from > left + width) {
        return;
      }
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, top, width, height + 8);
      ctx.clip();
      ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(colours[index] ?? 'red');
      ctx.lineWidth = 2;
      ctx.setLineDash([5, 5]);
      for (const x of end > time ? [from, to] : [from]) {
        ctx.beginPath();
        ctx.moveTo(x, top);
        ctx.lineTo(x, top + height);
        ctx.stroke();
      }
      ctx.fillRect(from - 5, top + height, to - from + 10, 6);
      ctx.globalAlpha = 0.1;
      ctx.fillRect(from, top, to - from, height);
      ctx.restore();
    });
  }
}

function Tooltip({ time, items, timeZone }: any) {
  return (
    <div style={{ padding: 8 }}>
      <b>{dateTimeFormat(time, { timeZone })}</b>
      {items.map(({ name, text, color }: any) => (
        <div key={name} style={{ display: 'flex', gap: 12, justifyContent: 'space-between' }}>
          <span style={{ borderLeft: `12px solid ${color}`, paddingLeft: 6 }}>{name}</span>
          <span>{text}</span>
        </div>
      ))}
    </div>
  );
}

const Graph = unlessEmpty(({ data, width, height, options, timeZone, timeRange }) => {
  const theme = useTheme2();
  const latest = React.useRef(data);
  const hooked = React.useRef(new WeakSet());
  const plots = React.useRef(new Set<any>());
  latest.current = data;
  React.useEffect(() => plots.current.forEach((plot) => plot.redraw(false)), [data.annotations]);
  const frames = React.useMemo(() => data.series.map(finite), [data.series]);
  cacheFieldDisplayNames(frames);
  return (
    <TimeSeries
      frames={frames} structureRev={data.structureRev} timeRange={timeRange} timeZone={timeZone} width={width}
      height={height} legend={options.legend} options={options}
    >
      {(config: any, aligned: any) => {
        if (!hooked.current.has(config)) {
          hooked.current.add(config);
          config.addHook('init', (plot: any) => plots.current.add(plot));
          config.addHook('destroy', (plot: any) => plots.current.delete(plot));
          config.addHook('draw', (plot: any) => drawEvents(plot, latest.current.annotations ?? [], theme));
        }
        const render = (_: unknown, indexes: Array<number | null>) => {
          const items = aligned.fields.slice(1).flatMap((field: any, at: number) => {
            const value = field.values[indexes[at + 1] ?? -1];
            const shown = field.display(value);
            const text = `${shown.prefix ?? ''}${shown.text}${shown.suffix ?? ''}`;
            return value == null ? [] : [{ name: field.state?.displayName, text, color: shown.color, value }];
          });
          items.sort((one: any, other: any) => other.value - one.value);
          return <Tooltip time={aligned.fields[0].values[indexes[0] ?? 0]} items={items} timeZone={timeZone} />;
        };
        return <TooltipPlugin2 config={config} hoverMode={options.tooltip?.mode === 'multi' ? 1 : 0} render={render} />;
      }}
    </TimeSeries>
  );
});

function Stat({ data, width, height, options, replaceVariables, fieldConfig, timeZone, renderCounter }: PanelProps<any>) {
  const theme = useTheme2();
  const values = () =>
    getFieldDisplayValues({
      fieldConfig, reduceOptions: options.reduceOptions, replaceVariables, theme, data: data.series,
      sparkline: options.graphMode !== 'none', timeZone,
    });
  const parent = width > height ? VizOrientation.Vertical : VizOrientation.Horizontal;
  const value = ({ value: one, alignmentFactors, width: w, height: h, count }: any) => (
    <BigValue
      value={one.display} count={count} sparkline={one.sparkline} alignmentFactors={alignmentFactors} width={w}
      height={h} theme={theme} colorMode={options.colorMode} graphMode={options.graphMode} text={options.text}
      justifyMode={options.justifyMode} textMode={options.textMode} disableWideLayout={!options.wideLayout}
      parentOrientation={parent}
    />
  );
  return (
    <VizRepeater
      getValues={values as any} getAlignmentFactors={getDisplayValueAlignmentFactors as any} renderValue={value}
      width={width} height={height} source={data} itemSpacing={3} renderCounter={renderCounter} autoGrid
      orientation={VizOrientation.Auto}
    />
  );
}

const Table = unlessEmpty(({ data, width, height, options, fieldConfig, timeRange }) => {
  const { onAddAdHocFilter } = usePanelContext();
  return (
    <TableNG
      data={data.series[options.frameIndex ?? 0]} width={width} height={height} noHeader={!options.showHeader}
      sortBy={options.sortBy} cellHeight={options.cellHeight} timeRange={timeRange} fieldConfig={fieldConfig}
      enablePagination={options.enablePagination ?? options.footer?.enablePagination} resizable
      enableVirtualization={false} structureRev={data.structureRev} noValue={fieldConfig.defaults.noValue} columnMinWidth={150}
      onCellFilterAdded={onAddAdHocFilter} getActions={() => []}
    />
  );
});

/** The periods of a field in which its value doesn't change; a missing sample ends one. */
function periods(times: number[], values: any[], step: number, end: number, merged: boolean) {
  const found: Array<{ from: number; to: number; value: any }> = [];
  times.forEach((from, index) => {
    const next = times[index + 1];
    const to = next === undefined ? Math.min(end, from + step) : Math.min(next, from + 1.5 * step);
    const last = found.at(-1);
    if (values[index] == null) {
      return;
    }
    if (merged && last?.value === values[index] && last?.to === from) {
      last.to = to;
    } else {
      found.push({ from, to, value: values[index] });
    }
  });
  return found;
}

function Lane({ field, time, timeRange, options, labelWidth, height, timeZone }: any) {
  const theme = useTheme2();
  const [start, end] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  const percent = (at: number) => (100 * (Math.min(end, Math.max(start, at)) - start)) / (end - start);
  const name = field.state?.displayName ?? field.name;
  const cut = { overflow: 'hidden', textOverflow: 'ellipsis', whiteSpace: 'nowrap' } as const;
  const inner = height * (options.rowHeight ?? 0.9);
  const shown = periods(time.values, field.values, time.config.interval ?? 0, end, options.mergeValues ?? true);
  return (
    <div data-lane={name} style={{ display: 'flex', height, alignItems: 'center' }}>
      <span style={{ ...cut, flex: `0 0 ${labelWidth}px`, paddingRight: 8, textAlign: 'right' }} title={name}>{name}</span>
      <div style={{ position: 'relative', flex: 1, height: inner }}>
        {shown.map(({ from, to, value }) => {
          const { text, color } = field.display(value);
          const background = theme.visualization.getColorByName(color ?? 'grey');
          return (
            <div
              key={from} data-period={text} title={`${dateTimeFormat(from, { timeZone })} ${text}`}
              style={{
                ...cut, position: 'absolute', left: `${percent(from)}%`, width: `${percent(to) - percent(from)}%`,
                height: inner, lineHeight: `${inner}px`, background, paddingLeft: to - from > (end - start) / 12 ? 4 : 0,
                color: theme.colors.getContrastText(background), opacity: (field.config.custom?.fillOpacity ?? 70) / 100,
              }}
            >
              {options.showValue !== 'never' && inner >= 12 && to - from > (end - start) / 12 ? text : ''}
            </div>
          );
        })}
      </div>
    </div>
  );
}

function TimeAxis({ timeRange, timeZone, indent }: any) {
  const [start, end] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
  const format = end - start > 86_400_000 ? 'MM/DD HH:mm' : 'HH:mm';
  const ticks = Array.from({ length: TICKS }, (_, index) => start + ((end - start) * index) / TICKS);
  return (
    <div style={{ display: 'flex', height: AXIS_HEIGHT, marginLeft: indent, alignItems: 'end' }}>
      {ticks.map((time) => <span key={time} style={{ flex: 1 }}>{dateTimeFormat(time, { timeZone, format })}</span>)}
    </div>
  );
}

const Timeline = unlessEmpty(({ data, width, height, options, timeRange, timeZone }) => {
  const theme = useTheme2();
  const [page, turn] = React.useState(1);
  const lanes = data.series.flatMap((frame) => {
    const time = frame.fields.find((field) => field.type === 'time');
    return frame.fields.filter((field) => field !== time).map((field) => ({ time, field }));
  });
  const perPage = options.perPage ?? 20;
  const pages = Math.ceil(lanes.length / perPage);
  const shown = lanes.slice((page - 1) * perPage, page * perPage);
  const states = new Map<string, string>();
  for (const { field } of lanes) {
    for (const value of new Set(field.values)) {
      const { text, color } = field.display!(value);
      if (value != null && text) {
        states.set(text, theme.visualization.getColorByName(color ?? 'grey'));
      }
    }
  }
  const items = [...states].map(([label, color]) => ({ label, color, yAxis: 1 }));
  const legend = options.legend?.showLegend && items.length ? (
    <VizLayout.Legend placement={options.legend.placement}>
      <VizLegend placement={options.legend.placement} items={items} displayMode={options.legend.displayMode} />
    </VizLayout.Legend>
  ) : null;
  const longest = Math.max(...shown.map(({ field }) => (field.state?.displayName ?? field.name).length));
  return (
    <div style={{ width, height, fontSize: theme.typography.bodySmall.fontSize }}>
      <VizLayout width={width} height={height - (pages > 1 ? PAGES_HEIGHT : 0)} legend={legend}>
        {(innerWidth: number, innerHeight: number) => {
          const labelWidth = Math.min(0.4 * innerWidth, 7 * longest + 12);
          const laneHeight = (innerHeight - AXIS_HEIGHT) / shown.length;
          return (
            <div style={{ width: innerWidth, height: innerHeight }}>
              {shown.map(({ field, time }, index) => (
                <Lane key={index} {...{ field, time, timeRange, timeZone, options, labelWidth }} height={laneHeight} />
              ))}
              <TimeAxis timeRange={timeRange} timeZone={timeZone} indent={labelWidth} />
            </div>
          );
        }}
      </VizLayout>
      {pages > 1 && (
        <div style={{ height: PAGES_HEIGHT, paddingTop: 6, display: 'flex', justifyContent: 'center' }}>
          <Pagination currentPage={page} numberOfPages={pages} onNavigate={turn} />
        </div>
      )}
    </div>
  );
});

const Heatmap = unlessEmpty(({ data, width, height, timeRange, timeZone, options }) => {
  const theme = useTheme2();
  const canvas = React.useRef<HTMLCanvasElement>(null);
  const [time, ...rows] = data.series[0].fields;
  const [indent, inner] = [56, height - AXIS_HEIGHT];
  React.useEffect(() => {
    const [start, end] = [timeRange.from.valueOf(), timeRange.to.valueOf()];
    const place = (at: number) => ((at - start) / (end - start)) * (width - indent);
    const context = canvas.current!.getContext('2d')!;
    const most = Math.max(...rows.flatMap((row) => row.values));
    const step = time.config.interval ?? 0;
    context.clearRect(0, 0, width, inner);
    rows.forEach((row, index) =>
      row.values.forEach((value: number, column: number) => {
        if (value > (options.filterValues?.le ?? 1e-9)) {
          const share = (value / most) ** (options.color?.exponent ?? 0.5);
          const to = place(time.values[column]);
          const from = Math.max(0, place(time.values[column] - step));
          context.fillStyle = interpolateBlues(theme.isDark ? 1 - share : share);
          context.fillRect(from, inner - ((index + 1) * inner) / rows.length, to - from - 1, inner / rows.length - 1);
        }
      })
    );
  });
  const every = Math.ceil((rows.length * 16) / inner);
  return (
    <div style={{ width, height, fontSize: theme.typography.bodySmall.fontSize }}>
      <div style={{ display: 'flex', height: inner }}>
        <div style={{ position: 'relative', width: indent }}>
          {rows.map((row, index) => index % every === 0 && (
            <span key={row.name} style={{ position: 'absolute', right: 6, bottom: (index * inner) / rows.length }}>
              {row.name}
            </span>
          ))}
        </div>
        <canvas ref={canvas} width={width - indent} height={inner} />
      </div>
      <TimeAxis timeRange={timeRange} timeZone={timeZone} indent={indent} />
    </div>
  );
});

const GRAPH = {
  drawStyle: 'line', lineInterpolation: 'linear', lineWidth: 1, fillOpacity: 0, gradientMode: 'none', barAlignment: 0,
  barWidthFactor: 0.6, stacking: { mode: 'none', group: 'A' }, axisPlacement: 'auto', axisLabel: '',
  axisCenteredZero: false, axisBorderShow: false, axisSoftMin: undefined, axisSoftMax: undefined, axisGridShow: undefined,
  axisColorMode: 'text', axisWidth: undefined, showPoints: 'auto', pointSize: 5, spanNulls: false,
  insertNulls: false, lineStyle: { fill: 'solid' }, thresholdsStyle: { mode: 'off' },
  scaleDistribution: { type: 'linear' }, hideFrom: HIDDEN,
};
const TABLE = {
  align: 'auto', cellOptions: { type: 'auto' }, width: undefined, minWidth: 150, filterable: false, inspect: false,
  hideFrom: { viz: false }, footer: undefined, wrapHeaderText: undefined, wrapText: undefined,
};
const TIMELINE = { lineWidth: 0, fillOpacity: 70, spanNulls: false, insertNulls: false, hideFrom: HIDDEN };

export const PLUGINS: Record<string, PanelPlugin<any, any>> = {
  timeseries: plugin('timeseries', Graph, GRAPH, FieldColorModeId.PaletteClassic),
  stat: plugin('stat', Stat, {}, FieldColorModeId.Thresholds),
  table: plugin('table', Table, TABLE),
  'state-timeline': plugin('state-timeline', Timeline, TIMELINE, FieldColorModeId.ContinuousGrYlRd),
  heatmap: plugin('heatmap', Heatmap, { scaleDistribution: { type: 'linear' } }),
};
