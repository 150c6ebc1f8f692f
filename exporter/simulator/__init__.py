"""An embedded Twilio Verify API with faults on request, for tests, for trying out, for the demo."""

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
