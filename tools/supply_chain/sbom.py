"""Write the image's software bill of materials in CycloneDX 1.6: ``python -m tools.supply_chain.sbom``.

It depends only on requirements.lock and pyproject.toml, without times or random numbers, so it is reproducible.
"""

from __future__ import annotations

import json
import re
import sys
import tomllib
import uuid
from pathlib import Path

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from exporter import __version__
from tools.supply_chain.lock import LINUX, Locked, locked

PROJECT = Path(__file__).parents[2]
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "verify-factor-exporter/sbom")


def sbom(project: Path = PROJECT) -> str:
    """Return the SBOM as JSON."""
    about = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    lock = project / "requirements.lock"
    packages = locked(lock, LINUX)
    root = Component(
        name=about["name"],
        version=__version__,
        type=ComponentType.APPLICATION,
        description=about["description"],
        licenses=[LicenseFactory().make_from_string(about["license"])],
        purl=PackageURL("pypi", name=about["name"], version=__version__),
        bom_ref=about["name"],
    )
    components = {package.name: _component(package) for package in packages}
    bom = Bom(
        components=components.values(), serial_number=uuid.uuid5(_NAMESPACE, f"{__version__}\n{lock.read_text()}")
    )
    bom.metadata.component = root
    for name, component in {root.name: root, **components}.items():
        bom.register_dependency(
            component, [components[package.name] for package in packages if name in package.required_by]
        )
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    del document["metadata"]["timestamp"]
    return json.dumps(document, indent=2, sort_keys=True) + "\n"


def _component(package: Locked) -> Component:
    archives = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(f"https://pypi.org/project/{package.name}/{package.version}/#files"),
        comment="hashes of all archives of this version; one of them is installed",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest) for digest in package.sha256],
    )
    return Component(
        name=package.name,
        version=package.version,
        type=ComponentType.LIBRARY,
        purl=PackageURL("pypi", name=package.name, version=package.version),
        external_references=[archives],
        bom_ref=re.sub(r"[^a-z0-9.]+", "-", f"{package.name}-{package.version}"),
    )


if __name__ == "__main__":
    sys.stdout.write(sbom())
