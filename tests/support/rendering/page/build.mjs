// Bundle the page: node build.mjs NODE_MODULES OUTPUT
import path from 'node:path';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

const [modules, output] = process.argv.slice(2).map((folder) => path.resolve(folder));
const require = createRequire(path.join(modules, 'index.js'));
const { default: esbuild } = await import(pathToFileURL(require.resolve('esbuild')));

// The editor of Grafana's library; package.json overrides it, because it is large and no dashboard has one.
const withoutEditor = {
  name: 'without-editor',
  setup(build) {
    build.onResolve({ filter: /^monaco-editor/ }, () => ({ path: 'monaco-editor', namespace: 'absent' }));
    build.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({ contents: 'module.exports = {}' }));
  },
};

await esbuild.build({
  entryPoints: [path.join(import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname), 'index.tsx')],
  bundle: true,
  format: 'esm',
  target: 'es2022',
  outdir: output,
  nodePaths: [modules],
  jsx: 'automatic',
  loader: { '.woff': 'file', '.woff2': 'file' },
  alias: { 'react-router-dom-v5-compat': 'react-router-dom' },
  define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  plugins: [withoutEditor],
  logLevel: 'warning',
});
