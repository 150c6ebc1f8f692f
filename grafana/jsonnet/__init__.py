"""The monitoring mixin in grafana/mixin: rules and dashboards for users of jsonnet.

config.py has the keys of ``_config``, groups.py the rules as jsonnet, which read those keys. mixin.libsonnet,
rules.libsonnet and dashboards.libsonnet are written by hand. The folder has no file of this package and reads none
outside, because jsonnet-bundler installs it alone. After a change, run ``python -m grafana.jsonnet``.
"""
