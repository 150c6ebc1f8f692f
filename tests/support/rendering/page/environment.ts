// What Grafana's application gives to its libraries: registries, a theme, one data source, the panel plugins.
import {
  booleanOverrideProcessor, createTheme, dataLinksOverrideProcessor, displayNameOverrideProcessor, EventBusSrv,
  identityOverrideProcessor, LoadingState, numberOverrideProcessor, standardEditorsRegistry,
  standardFieldConfigEditorRegistry, standardTransformers, standardTransformersRegistry, stringOverrideProcessor,
  thresholdsOverrideProcessor, unitOverrideProcessor, valueMappingsOverrideProcessor,
} from '@grafana/data';
import * as runtime from '@grafana/runtime';
import { catchError, from, isObservable, map, of } from 'rxjs';

import { PLUGINS } from './panels';
import { Prometheus } from './prometheus';

const NO_EXTENSIONS = { isLoading: false, links: [], components: [], functions: [] };

const option = (id: string, process: unknown, defaultValue?: unknown) => ({
  id, path: id, name: id, process, defaultValue, editor: () => null, override: () => null, shouldApply: () => true,
});

const THRESHOLDS = { mode: 'absolute', steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }] };

const FIELD_OPTIONS = [
  option('displayName', displayNameOverrideProcessor),
  option('unit', unitOverrideProcessor),
  option('min', numberOverrideProcessor),
  option('max', numberOverrideProcessor),
  option('decimals', numberOverrideProcessor),
  option('thresholds', thresholdsOverrideProcessor, THRESHOLDS),
  option('mappings', valueMappingsOverrideProcessor, []),
  option('noValue', stringOverrideProcessor),
  option('links', dataLinksOverrideProcessor),
  option('color', identityOverrideProcessor),
  option('filterable', booleanOverrideProcessor),
  option('actions', identityOverrideProcessor),
];

/** Set everything up, and return the theme. */
export function prepare(mode: 'light' | 'dark', url: string, scrapeInterval: string) {
  const theme = createTheme({ colors: { mode } });
  (runtime.config as any).theme2 = theme;
  standardFieldConfigEditorRegistry.setInit(() => FIELD_OPTIONS as any);
  standardEditorsRegistry.setInit(() => []);
  const transformers = new Map(Object.values(standardTransformers).map((one: any) => [one.id, one]));
  standardTransformersRegistry.setInit(
    () =>
      [...transformers.values()].map((one) => ({
        id: one.id,
        name: one.name,
        transformation: Object.assign(() => Promise.resolve(one), { operator: one.operator }),
        editor: () => null,
        imageDark: '',
        imageLight: '',
      })) as any
  );
  const settings: any = {
    id: 1, uid: 'prometheus', name: 'Prometheus', type: 'prometheus', url, jsonData: { timeInterval: scrapeInterval },
    meta: { id: 'prometheus', name: 'Prometheus', info: { logos: { small: '', large: '' } }, metrics: true },
    isDefault: true, access: 'proxy', readOnly: true,
  };
  const source = new Prometheus(settings);
  runtime.setDataSourceSrv({
    get: async () => source,
    getList: () => [settings],
    getInstanceSettings: () => settings,
    reload: async () => {},
    registerRuntimeDataSource: () => {},
  } as any);
  const plugin = (id: string) => PLUGINS[id];
  runtime.setPluginImportUtils({ importPanelPlugin: async (id: string) => plugin(id), getPanelPluginFromCache: plugin } as any);
  runtime.setRunRequest(run as any);
  runtime.setAppEvents(new EventBusSrv());
  runtime.setTemplateSrv({
    getVariables: () => [], replace: (text: string) => text, containsTemplate: () => false, updateTimeRange: () => {},
  } as any);
  runtime.setEchoSrv({ addEvent: () => {}, flush: () => {}, addBackend: () => {} } as any);
  runtime.setReturnToPreviousHook(() => () => {});
  runtime.setChromeHeaderHeightHook(() => 40);
  runtime.setPluginLinksHook(() => NO_EXTENSIONS as any);
  runtime.setPluginComponentsHook(() => NO_EXTENSIONS as any);
  runtime.setPluginFunctionsHook(() => NO_EXTENSIONS as any);
  return theme;
}

/** Run a request and return the states of its data, as Grafana's query runner does. */
function run(source: any, request: any, query?: (request: any) => any) {
  const answer = query ? query(request) : source.query(request);
  const data = (more: object) => ({ series: [], annotations: [], request, timeRange: request.range, ...more });
  return (isObservable(answer) ? answer : from(answer as Promise<any>)).pipe(
    map(({ data: frames, state = LoadingState.Done, error, errors }: any) =>
      data({ series: frames.filter((frame: any) => frame.fields), state, error, errors })
    ),
    catchError((error) => of(data({ state: LoadingState.Error, error: { message: String(error) } })))
  );
}
