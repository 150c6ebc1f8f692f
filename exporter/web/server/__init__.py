"""The web server: sockets, limits, TLS and basic auth."""
