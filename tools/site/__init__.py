"""The documentation as a site (``make site``), from the same Markdown that GitHub shows.

hooks.py is what MkDocs runs, markdown.py adapts lists and links, and site.css makes the theme legible.
"""
