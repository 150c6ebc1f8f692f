local defaults = (import 'config.libsonnet')._config;
local boards = {
  'twilio-verify-exporter.json': import 'dashboards/twilio-verify-exporter.json',
  'twilio-verify-factor.json': import 'dashboards/twilio-verify-factor.json',
  'twilio-verify-overview.json': import 'dashboards/twilio-verify-overview.json',
};

// The link from an alert in a table.
local runbook(config) = config.runbookURLPattern % '${__data.fields.alertname}';

// A dashboard with another type of data source, in its variable and in every reference, and another text for one.
local adapted(tree, type, before, after) =
  if std.isObject(tree) then
    { [key]: adapted(tree[key], type, before, after) for key in std.objectFields(tree) }
    + (if std.objectHas(tree, 'uid') && tree.uid == '${datasource}' then { type: type } else {})
    + (if std.objectHas(tree, 'query') && std.objectHas(tree, 'type') && tree.type == 'datasource'
       then { query: type } else {})
  else if std.isArray(tree) then
    [adapted(item, type, before, after) for item in tree]
  else if tree == before then
    after
  else
    tree;

{
  local config = $._config,
  // Computed once, because a format takes longer than everything else.
  local before = runbook(defaults),
  local after = runbook(config),

  grafanaDashboards+:: {
    [name]: adapted(boards[name], config.datasourceType, before, after) {
      title: config.dashboardNamePrefix + std.splitLimit(super.title, ' / ', 1)[1],
      tags: config.dashboardTags,
      refresh: config.dashboardRefresh,
      time+: { from: config.dashboardPeriod },
      timezone: config.dashboardTimezone,
    }
    for name in std.objectFields(boards)
  },
}
