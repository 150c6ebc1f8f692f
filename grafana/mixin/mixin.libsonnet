// Rules and dashboards of verify-factor-exporter. config.libsonnet documents the keys of _config.
(import 'config.libsonnet') +
(import 'rules.libsonnet') +
(import 'dashboards.libsonnet')
