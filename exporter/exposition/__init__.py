"""The text that a scrape gets.

``catalogue`` is the list of metrics; ``telemetry`` counts events and reads gauges for the exporter's own families;
``factors`` renders the factor families; ``pieces`` keeps and compresses chunks of text; ``page`` puts
it all together.
"""
