"""docs/integrations.md: its configurations are well formed and fit the exporter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from cloudcoil.models.prometheus_operator import v1alpha1

from exporter.config.settings import DEFAULT_PORT
from exporter.exposition.catalogue import CATALOGUE
from grafana.rules.model import Settings
from tests.support.scrapers.page import block, blocks

JOB = Settings().job
# The tags that Datadog reserves, as its own tests of checks have them.
DATADOG_RESERVED = {
    *("cluster", "cluster_name", "clustername", "env", "host", "host_name", "hostname", "service", "version"),
}


def test_every_block_is_yaml_and_has_no_key_twice() -> None:
    class Unique(yaml.SafeLoader):
        pass

    def mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys))
        return loader.construct_mapping(node, deep=True)

    Unique.add_constructor("tag:yaml.org,2002:map", mapping)
    found = [yaml.load(text, Unique) for text in blocks()]  # noqa: S506 - a safe loader
    assert len(found) == 6
    assert all(isinstance(one, dict) for one in found)


def test_jobs_have_the_name_and_the_port_that_the_rules_and_the_exporter_have() -> None:
    receiver = yaml.safe_load(block("otelcol.yaml"))["receivers"]["prometheus"]["config"]
    for config in (yaml.safe_load(block("prometheus.yml")), yaml.safe_load(block("promscrape.yaml")), receiver):
        (job,) = config["scrape_configs"]
        assert job["job_name"] == JOB
        assert job["static_configs"] == [{"targets": [f"localhost:{DEFAULT_PORT}"]}]


def test_the_operators_resource_follows_its_model() -> None:
    (text,) = (text for text in blocks() if "monitoring.coreos.com" in text)
    resource = yaml.safe_load(text)
    parsed = v1alpha1.ScrapeConfig.model_validate(resource)

    assert parsed.model_dump(mode="json", by_alias=True, exclude_none=True) == resource
    (target,) = resource["spec"]["staticConfigs"]
    assert target["labels"]["job"] == JOB


def test_datadogs_reserved_tags_are_renamed() -> None:
    (instance,) = yaml.safe_load(block("openmetrics.d/conf.yaml"))["instances"]
    used = {label for family in CATALOGUE for label in family.labels}

    assert used & DATADOG_RESERVED == instance["rename_labels"].keys()


def test_compose_protects_the_container_as_the_demo_does() -> None:
    (service,) = yaml.safe_load(block("compose.yaml"))["services"].values()
    demo = yaml.safe_load((Path(__file__).parents[1] / "compose.yaml").read_text())["services"]["exporter"]
    for key in ("read_only", "cap_drop", "security_opt"):
        assert service[key] == demo[key]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
