"""An embedded Twilio Verify API with fault injection, for tests, trials and the demo.

Where to change what: the API's responses in ``api`` and ``answers``, the token endpoint in ``oauth``; its data in
``world`` and ``factors``; scripted changes in ``script``; the kinds of faults in ``faults``, what they do to a
response or connection in ``wire``, and how they are written in ``faultspec``; the endpoints below /simulator/ in
``control``; request counts in ``calls``; generated data in ``seed``; the socket in ``server``. docs/simulator.md
describes all of it.
"""

from __future__ import annotations

from exporter.simulator.calls import CallCounts, ReceivedRequest
from exporter.simulator.factors import FactorStatus, FactorType, SimulatedFactor
from exporter.simulator.faults import Fault, FaultError, FaultKind, FaultSet
from exporter.simulator.script import Action, Script, Step
from exporter.simulator.seed import SeededFactor, demo_world, small_world
from exporter.simulator.server import Simulator
from exporter.simulator.target import Endpoint

__all__ = [
    "Action",
    "CallCounts",
    "Endpoint",
    "FactorStatus",
    "FactorType",
    "Fault",
    "FaultError",
    "FaultKind",
    "FaultSet",
    "ReceivedRequest",
    "Script",
    "SeededFactor",
    "SimulatedFactor",
    "Simulator",
    "Step",
    "demo_world",
    "small_world",
]
