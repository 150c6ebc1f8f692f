"""The chart on a real Kubernetes: ``make cluster-binaries`` gets its programs, ``make cluster`` tries the chart.

``binaries`` builds and unpacks the programs, ``programs`` finds them. ``control_plane`` and ``node`` run them, the
latter in namespaces of its own. ``resources`` has custom resource definitions, ``images`` builds images.
``releases`` runs Helm and kubectl; ``trials`` installs, tests, upgrades and rolls back; ``fixtures`` installs
without pods. ``objects`` compares what was rendered with what the API server keeps. ``world`` is the simulated
account, ``substitute`` stands in for pods where none can run, ``report`` makes the tables.
"""
