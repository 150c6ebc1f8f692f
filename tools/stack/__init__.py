"""``make stack``: the demo with a real Prometheus and Alertmanager.

__main__.py starts everything, programs.py runs processes, receiver.py is the webhook that prints notifications,
push.py sends them to a phone, and shortened.py derives the configuration from the example files, with shorter
waits.
"""
