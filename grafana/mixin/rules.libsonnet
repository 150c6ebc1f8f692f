local groups = import 'groups.libsonnet';

// The groups with those of their rules that have a field.
local having(field, groups, suffix='') = [
  group {
    name: group.name + suffix,
    rules: [rule for rule in group.rules if std.objectHas(rule, field)],
  }
  for group in groups
];

// Prometheus would evaluate groups without rules for nothing.
local nonempty(groups) = [group for group in groups if std.length(group.rules) > 0];

// The rules with the changes to single alerts; null leaves an alert out.
local changed(rules, changes) = [
  rule + (if std.objectHas(changes, rule.alert) then changes[rule.alert] else {})
  for rule in rules
  if !std.objectHas(changes, rule.alert) || changes[rule.alert] != null
];

{
  local config = $._config,
  local every = groups(config),
  local chosen = every.always
                 + (if config.unusedPasskeys then every.unusedPasskeys else [])
                 + (if config.watchdog then every.watchdog else []),

  local known = std.set([
    rule.alert
    for name in std.objectFields(every)
    for group in having('alert', every[name])
    for rule in group.rules
  ]),
  local unknown = std.setDiff(std.objectFields(config.alerts), known),
  local changes = if unknown == [] then config.alerts else
    error '_config.alerts: unknown alert %s; the alerts are %s' % [unknown[0], std.join(', ', known)],

  local selector = config.exporterSelector,
  local selected = if std.length(std.findSubstr('job="', selector)) > 0 then chosen else
    error '_config.exporterSelector: %s has no job="…", which names the job in alerts' % selector,

  prometheusAlerts+:: {
    groups+: nonempty([
      group { rules: changed(group.rules, changes) }
      for group in having('alert', selected)
    ]),
  },

  // With names of their own, so that one file can hold both.
  prometheusRules+:: { groups+: nonempty(having('record', chosen, '.rules')) },
}
