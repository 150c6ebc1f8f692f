// Runs before any library: settings that they read while they load, and the time at which the board is opened.
const now = Number(new URLSearchParams(location.search).get('now'));
const RealDate = Date;
const behind = RealDate.now() - now;
let opening = true; // until the first render, time stands still: loading the libraries takes no time

class BoardDate extends RealDate {
  constructor(...parts: any[]) {
    // @ts-ignore: Date has many signatures
    super(...(parts.length ? parts : [BoardDate.now()]));
  }
  static now() {
    return opening ? now : RealDate.now() - behind;
  }
}

Object.assign(window, {
  Date: BoardDate,
  opened: () => (opening = false),
  rendered: { queries: [], running: 0, errors: [] },
  __grafana_public_path__: '/public/',
  grafanaBootData: {
    settings: { featureToggles: {}, buildInfo: { version: '13.2.3', env: 'production' }, appSubUrl: '' },
    user: {},
    navTree: [],
  },
});

export {};
