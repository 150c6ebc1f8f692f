"""When each factor is fetched, and what is known of it since when.

Where to find:

- the fetch path, from dispatch to the observers: :mod:`exporter.polling.account`, top to bottom
- the schedule (when a factor is due): :mod:`exporter.polling.schedule`; intervals and stretch:
  :mod:`exporter.polling.ledger` and :mod:`exporter.polling.poller`
- the order of requests: :mod:`exporter.polling.queue`; rate, concurrency and budget:
  :mod:`exporter.polling.throttle`
- the backoff and the number of attempts: :mod:`exporter.polling.backoff`
- the pause: :mod:`exporter.polling.pause`; after a 401 or 403 :mod:`exporter.polling.refusals`, after a 429
  :mod:`exporter.polling.throttle`
- the access token of an account with an OAuth app: :mod:`exporter.polling.token`
- stuck requests and client rotation: :mod:`exporter.polling.clients`
- listings and found factors: :mod:`exporter.polling.discovery`, :mod:`exporter.polling.service_discovery`
  (whole services), :mod:`exporter.polling.roster`; what listings may use of the budget:
  :mod:`exporter.polling.throttle`
- whether a service exists: :mod:`exporter.polling.services`
- what is known of a factor: :mod:`exporter.polling.record`, changed by :mod:`exporter.polling.ledger`, saved as
  :mod:`exporter.polling.snapshot`
"""
