"""Development tools; the exporter does not import them.

reference/ generates the reference pages in docs/, stack/ runs ``make stack``, supply_chain/ audits and lists the
locked dependencies.
"""
