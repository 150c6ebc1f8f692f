"""The samples of a scrape, parsed by prometheus_client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

FACTOR = "twilio_verify_factor_"


class Scrape:
    """The samples of one scrape, selected by any of their labels."""

    def __init__(self, text: str, *, openmetrics: bool = False) -> None:
        self.text = text
        read = read_openmetrics if openmetrics else read_text
        self._samples: dict[str, list[Sample]] = {}
        for metric in read(text):
            for sample in metric.samples:
                self._samples.setdefault(sample.name, []).append(sample)

    def __str__(self) -> str:
        lines = (line for line in self.text.splitlines() if line.startswith("twilio_") and "_bucket{" not in line)
        return "\n".join(lines)

    def __contains__(self, name: str) -> bool:
        return name in self._samples

    def samples(self, name: str, **labels: str) -> list[Sample]:
        """Return the samples of this name that have these labels."""
        return [sample for sample in self._samples.get(name, ()) if labels.items() <= sample.labels.items()]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only matching sample, ``None`` if there is none."""
        found = self.samples(name, **labels)
        assert len(found) <= 1, f"{name}{labels} is not one sample: {found}"
        return found[0].value if found else None

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of the samples that are meant."""
        return sum(sample.value for sample in self.samples(name, **labels))

    def factor(self, family: str, factor: str, **labels: str) -> float | None:
        """Return a factor's value by the short name of a family."""
        return self.value(FACTOR + family, factor=factor, **labels)

    def counts(self, **labels: str) -> dict[str, float]:
        """Return the number of factors by status."""
        counts: dict[str, float] = {}
        for sample in self.samples("twilio_verify_factors", **labels):
            status = sample.labels["status"]
            counts[status] = counts.get(status, 0) + sample.value
        return counts

    def failures(self, **labels: str) -> dict[str, float]:
        """Return the number of failures by reason, without reasons at 0."""
        counted: dict[str, float] = {}
        for sample in self.samples("twilio_verify_fetch_failures_total", **labels):
            if sample.value:
                reason = sample.labels["reason"]
                counted[reason] = counted.get(reason, 0) + sample.value
        return counted
