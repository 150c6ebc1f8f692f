// The page /d/UID?now=…&source=…&scrape=…&theme=…&expanded=…: a dashboard, opened at a time, over a Prometheus.
import './start';
import '@fontsource/inter/latin-400.css';
import '@fontsource/inter/latin-500.css';
import '@fontsource/roboto-mono/latin-400.css';
import { ThemeContext } from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { LocationServiceProvider, locationService } from '@grafana/runtime';
import { sceneGraph, UrlSyncContextProvider, VizPanel } from '@grafana/scenes';
import { GlobalStyles, PortalContainer } from '@grafana/ui';
import React from 'react';
import { createRoot } from 'react-dom/client';
import { BrowserRouter } from 'react-router-dom';

import { board } from './board';
import { prepare } from './environment';

const asked = new URLSearchParams(location.search);
const report = (window as any).rendered;

class Caught extends React.Component<any, { error?: Error }> {
  state: { error?: Error } = {};
  static getDerivedStateFromError(error: Error) {
    report.errors.push(String(error.stack));
    return { error };
  }
  render() {
    return this.state.error ? <pre>{this.state.error.stack}</pre> : this.props.children;
  }
}

/** The state of each panel's data, by key, and how many of its frames have rows. */
function panelsOf(scene: any) {
  const panels = sceneGraph.findAllObjects(scene, (one) => one instanceof VizPanel) as VizPanel[];
  return Object.fromEntries(
    panels.map((one) => {
      const { state, series } = sceneGraph.getData(one).state.data ?? {};
      return [one.state.key, { state, frames: (series ?? []).filter((frame) => frame.length).length }];
    })
  );
}

function Page({ json, theme }: any) {
  const scene = React.useMemo(() => board(json, asked.get('expanded') === 'true'), [json]);
  report.panels = () => panelsOf(scene);
  const { background, border } = theme.colors;
  const bar = { padding: '10px 16px', background: background.primary, borderBottom: `1px solid ${border.weak}` };
  return (
    <div style={{ background: background.canvas, minHeight: '100vh' }}>
      <div style={bar}>Home › Dashboards › {json.title}</div>
      <div style={{ padding: '8px 16px 16px' }}>
        <UrlSyncContextProvider scene={scene as any} updateUrlOnInit={false}>
          <scene.Component model={scene} />
        </UrlSyncContextProvider>
      </div>
    </div>
  );
}

async function open() {
  const json = await (await fetch(`/boards/${location.pathname.split('/').pop()}.json`)).json();
  await initPluginTranslations('grafana', []).catch(() => {});
  const theme = prepare(asked.get('theme') === 'light' ? 'light' : 'dark', asked.get('source')!, asked.get('scrape')!);
  (window as any).opened();
  createRoot(document.getElementById('root')!).render(
    <BrowserRouter>
      <LocationServiceProvider service={locationService}>
        <ThemeContext.Provider value={theme}>
          <GlobalStyles />
          <Caught>
            <Page json={json} theme={theme} />
          </Caught>
          <PortalContainer />
        </ThemeContext.Provider>
      </LocationServiceProvider>
    </BrowserRouter>
  );
}

open().catch((error) => report.errors.push(String(error.stack)));
