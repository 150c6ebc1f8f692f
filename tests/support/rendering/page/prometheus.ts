// A data source that queries a Prometheus directly. Grafana's own one is not among its Apache-2.0 packages: what it
// does to a query (escaping, steps, intervals, filters) follows its public documentation.
import {
  DataSourceApi, FieldType, LoadingState, rangeUtil, toDataFrame,
  type DataFrame, type DataQueryRequest, type DataSourceInstanceSettings,
} from '@grafana/data';
import { sceneGraph, type SceneObject } from '@grafana/scenes';
import { parser } from '@prometheus-io/lezer-promql';
import { from, of, type Observable } from 'rxjs';

type Labels = Record<string, string>;
type Series = { labels: Labels; points: Array<[number, string]> };

const MOST_POINTS = 11_000;
const report = (window as any).rendered;

/** Escape a value for a quoted matcher. */
const plain = (value: unknown) => String(value).replace(/\\/g, '\\\\').replace(/'/g, "\\\\'");

/** Escape a value for a regular expression inside a quoted matcher. */
const pattern = (value: unknown) =>
  String(value).replace(/\\/g, '\\\\\\\\').replace(/[$^*{}[\]'+?.()|]/g, '\\\\$&');

/** The value of a variable for which the query names no format. */
export function interpolated(value: unknown, variable: { multi?: boolean; includeAll?: boolean }): string {
  if (!variable.multi && !variable.includeAll) {
    return plain(value);
  }
  if (!Array.isArray(value)) {
    return pattern(value);
  }
  const patterns = value.map(pattern);
  return patterns.length === 1 ? patterns[0] : `(${patterns.join('|')})`;
}

/** Add ad hoc filters to every selector of an expression. */
export function filtered(expression: string, filters: Array<{ key: string; operator: string; value: string }>) {
  if (!filters.length) {
    return expression;
  }
  const matchers = filters.map(({ key, operator, value }) => `${key}${operator}${JSON.stringify(value)}`).join(', ');
  const inserts: Array<[number, string]> = [];
  parser.parse(expression).iterate({
    enter: ({ name, from: start, to: end }) => {
      if (name !== 'VectorSelector') {
        return;
      }
      const brace = expression.slice(start, end).lastIndexOf('}');
      if (brace < 0) {
        inserts.push([end, `{${matchers}}`]);
      } else {
        const empty = /\{\s*\}$/.test(expression.slice(start, end));
        inserts.push([start + brace, empty ? matchers : `, ${matchers}`]);
      }
    },
  });
  return inserts.reverse().reduce((text, [at, more]) => text.slice(0, at) + more + text.slice(at), expression);
}

const named = (format: string, labels: Labels) =>
  format.replace(/\{\{\s*(.+?)\s*\}\}/g, (_, name) => labels[name] ?? '');

function legend(format: string | undefined, { __name__: name = '', ...labels }: Labels): string {
  if (format) {
    return named(format, labels);
  }
  const pairs = Object.entries(labels).map(([key, value]) => `${key}="${value}"`).join(', ');
  return pairs ? `${name}{${pairs}}` : name;
}

const number = (text: string) => ({ NaN: NaN, '+Inf': Infinity, '-Inf': -Infinity })[text] ?? parseFloat(text);

export class Prometheus extends DataSourceApi<any> {
  private url: string;

  constructor(settings: DataSourceInstanceSettings<any>) {
    super(settings);
    this.url = settings.url!;
    this.meta = settings.meta;
    this.interval = settings.jsonData.timeInterval;
    this.annotations = {
      prepareAnnotation: (annotation: any) => ({
        ...annotation,
        target: { refId: 'Anno', expr: annotation.expr, interval: annotation.step },
      }),
      processEvents: (annotation: any, frames: DataFrame[]) => of(events(annotation, frames)),
    } as any;
  }

  query(request: DataQueryRequest<any>): Observable<any> {
    return from(this.answer(request));
  }

  private async answer(request: DataQueryRequest<any>) {
    const errors: Array<{ message: string; refId: string }> = [];
    const frames = await Promise.all(
      request.targets
        .filter((target) => !target.hide)
        .map((target) =>
          this.frames(target, request).catch((error) => {
            errors.push({ message: String(error.message), refId: target.refId });
            return [];
          })
        )
    );
    const state = errors.length ? LoadingState.Error : LoadingState.Done;
    return { data: frames.flat(), state, error: errors[0], errors: errors.length ? errors : undefined };
  }

  private async frames(target: any, request: DataQueryRequest<any>): Promise<DataFrame[]> {
    const [start, end] = [request.range.from.valueOf() / 1000, request.range.to.valueOf() / 1000];
    const step = this.step(target, request, end - start);
    const expr = this.expression(target.expr, request, step, Math.max(1, Math.round(end - start)));
    const aligned = { start: Math.floor(start / step) * step, end: Math.floor(end / step) * step, step };
    const series = target.instant
      ? await this.series('query', { query: expr, time: end }, request.panelId)
      : await this.series('query_range', { query: expr, ...aligned }, request.panelId);
    if (!series.length) {
      return [];
    }
    switch (target.format) {
      case 'table':
        return [table(target.refId, series, request.targets.length > 1)];
      case 'heatmap':
        return [buckets(target.refId, series, step)];
      default:
        return series.map((one) => line(target, one, step));
    }
  }

  private step(target: any, request: DataQueryRequest<any>, seconds: number): number {
    let milliseconds = request.intervalMs;
    if (target.interval) {
      const low = target.interval;
      milliseconds = rangeUtil.calculateInterval(request.range, request.maxDataPoints ?? 1000, low).intervalMs;
    }
    return Math.max(1, Math.round(milliseconds / 1000), Math.ceil(seconds / MOST_POINTS));
  }

  private expression(text: string, request: DataQueryRequest<any>, step: number, range: number): string {
    const scrape = rangeUtil.intervalToSeconds(this.interval!);
    const macros: Record<string, string> = {
      __rate_interval: `${Math.max(step + scrape, 4 * scrape)}s`,
      __interval_ms: `${step * 1000}`,
      __interval: `${step}s`,
      __range_ms: `${range * 1000}`,
      __range_s: `${range}`,
      __range: `${range}s`,
    };
    const own = Object.fromEntries(Object.entries(macros).map(([name, value]) => [name, { text: value, value }]));
    const scope = sceneOf(request.scopedVars);
    const filled = scope
      ? sceneGraph.interpolate(scope, text, { ...request.scopedVars, ...own }, interpolated as any)
      : text;
    return filtered(filled, (request as any).filters ?? []);
  }

  private async series(path: string, form: Record<string, unknown>, panel: unknown): Promise<Series[]> {
    const began = performance.now();
    const noted: Record<string, unknown> = { panel, expr: form.query, step: form.step };
    report.queries.push(noted);
    try {
      const { result } = await this.api(path, form);
      noted.series = result.length;
      return result.map((one: any) => ({ labels: one.metric, points: one.values ?? [one.value] }));
    } catch (error: any) {
      noted.error = error.message;
      throw error;
    } finally {
      noted.milliseconds = Math.round(performance.now() - began);
    }
  }

  private async api(path: string, form?: Record<string, unknown>): Promise<any> {
    report.running += 1;
    try {
      const body = form && new URLSearchParams(Object.entries(form).map(([name, value]) => [name, String(value)]));
      const response = await fetch(`${this.url}/api/v1/${path}`, body ? { method: 'POST', body } : {});
      const { status, data, error } = await response.json();
      if (status !== 'success') {
        throw new Error(error);
      }
      return data;
    } finally {
      report.running -= 1;
    }
  }

  async metricFindQuery(query: any, options?: any) {
    const scope = sceneOf(options?.scopedVars);
    const text = typeof query === 'string' ? query : query.query;
    const filled = scope ? sceneGraph.interpolate(scope, text, options.scopedVars, interpolated as any) : text;
    const found = /^label_values\((.+),\s*(\w+)\)$/s.exec(filled);
    if (!found) {
      throw new Error(`not a query of label values: ${filled}`);
    }
    const form = new URLSearchParams({ 'match[]': found[1] });
    if (options?.range) {
      form.set('start', String(options.range.from.valueOf() / 1000));
      form.set('end', String(options.range.to.valueOf() / 1000));
    }
    const values: string[] = await this.api(`label/${found[2]}/values?${form}`);
    return values.map((text) => ({ text }));
  }

  async getTagKeys() {
    return (await this.api('labels')).map((text: string) => ({ text, value: text }));
  }

  async getTagValues({ key }: { key: string }) {
    return (await this.api(`label/${key}/values`)).map((text: string) => ({ text, value: text }));
  }

  async testDatasource() {
    return { status: 'success', message: '' };
  }
}

function sceneOf(scopedVars: any): SceneObject | undefined {
  const scope = scopedVars?.__sceneObject?.value;
  return scope?.valueOf ? scope.valueOf() : scope;
}

function table(refId: string, series: Series[], several: boolean): DataFrame {
  const rows = series.flatMap(({ labels, points }) => points.map((point) => ({ labels, point })));
  const names = [...new Set(series.flatMap(({ labels }) => Object.keys(labels)))].sort();
  return toDataFrame({
    refId,
    meta: { preferredVisualisationType: 'table' },
    fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: rows.map(({ point }) => point[0] * 1000) },
      ...names.map((name) => ({
        name,
        type: FieldType.string,
        config: { filterable: true },
        values: rows.map(({ labels }) => labels[name] ?? ''),
      })),
      {
        name: several ? `Value #${refId}` : 'Value',
        type: FieldType.number,
        config: {},
        values: rows.map(({ point }) => number(point[1])),
      },
    ],
  });
}

function line(target: any, { labels, points }: Series, step: number): DataFrame {
  const name = legend(target.legendFormat, labels);
  return toDataFrame({
    refId: target.refId,
    name,
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: points.map(([t]) => t * 1000) },
      {
        name: 'Value',
        type: FieldType.number,
        labels,
        config: { displayNameFromDS: name || undefined },
        values: points.map(([, value]) => number(value)),
      },
    ],
  });
}

/** The frame of a heatmap: one field per bucket, with what it has more than the bucket below. */
function buckets(refId: string, series: Series[], step: number): DataFrame {
  const sorted = [...series].sort((one, other) => number(one.labels.le) - number(other.labels.le));
  const times = [...new Set(series.flatMap(({ points }) => points.map(([time]) => time)))].sort((a, b) => a - b);
  let below = times.map(() => 0);
  const fields = sorted.map(({ labels, points }) => {
    const at = new Map(points.map(([time, value]) => [time, number(value)]));
    const upTo = times.map((time) => at.get(time) ?? 0);
    const values = upTo.map((value, index) => value - below[index]);
    below = upTo;
    return { name: labels.le, labels, type: FieldType.number, config: {}, values };
  });
  return toDataFrame({
    refId,
    meta: { type: 'heatmap-rows' as any },
    fields: [
      { name: 'Time', type: FieldType.time, config: { interval: step * 1000 }, values: times.map((t) => t * 1000) },
      ...fields,
    ],
  });
}

/** The events of an annotation: neighbouring samples of a series above 0 are one event. */
function events(annotation: any, frames: DataFrame[]) {
  const gap = rangeUtil.intervalToMs(annotation.step || '60s');
  const tagKeys = (annotation.tagKeys ?? '').split(',');
  const found: any[] = [];
  for (const frame of frames) {
    const [timeField, valueField] = frame.fields;
    const labels = valueField.labels ?? {};
    const values: number[] = [...valueField.values];
    const active = annotation.useValueForTime
      ? values.map(Math.floor)
      : [...timeField.values].filter((_, index) => values[index] > 0);
    let latest: any = null;
    for (const time of active) {
      if (latest && time <= latest.timeEnd + gap) {
        latest.timeEnd = time;
        continue;
      }
      latest = {
        time,
        timeEnd: time,
        annotation,
        title: named(annotation.titleFormat ?? '', labels),
        text: named(annotation.textFormat ?? '', labels),
        tags: tagKeys.filter((key: string) => key in labels).map((key: string) => labels[key]),
        color: annotation.iconColor,
      };
      found.push(latest);
    }
  }
  return found;
}
