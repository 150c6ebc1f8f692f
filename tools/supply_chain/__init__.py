"""The locked dependencies: lock.py parses a lock, audit.py checks for vulnerabilities, sbom.py writes the SBOM."""
