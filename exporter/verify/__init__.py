"""The Verify API client of the exporter: one request at a time, without retries.

``client`` sends a request; ``answers`` says what a response means (a 404 is ``not_found``, a 401 an ``auth``
failure); ``token`` requests access tokens of an OAuth app; ``attempt`` has what both clients share; ``freshness``
recognizes responses from caches; ``outcome`` has the statuses, reasons and hints; ``transport`` limits an attempt
and determines the reason of a failure; ``transports`` selects between ``http1``, the exporter's own transport, and
aiohttp's for proxies.
"""
