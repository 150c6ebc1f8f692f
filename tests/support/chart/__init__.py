"""The chart, rendered and judged."""
