"""The simulated account that every pod of a trial polls: a container beside the exporter runs the simulator.

All simulators have the same seed and so the same factors; the chart's values get their SIDs and the simulator's
address.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from exporter.simulator import FactorStatus, Simulator, small_world

if TYPE_CHECKING:
    from collections.abc import Mapping

PORT = 10080
FACTORS = 24
_SEED = 0
_INTERVALS = ("interval", "unverified_interval", "discovery_interval")
_URL = f"http://127.0.0.1:{PORT}"


@dataclass(frozen=True, slots=True)
class Account:
    """SIDs and secret of the simulated account, and a verified factor of it."""

    account_sid: str
    username: str
    password: str
    service_sid: str
    factor: dict[str, str]


def simulated_account() -> Account:
    """Return what ``simulate`` with the arguments of ``container`` serves."""
    simulator = Simulator(seed=_SEED)
    seeded = small_world(simulator, FACTORS, random.Random(_SEED))
    name, factor, _ = next(one for one in seeded if one.factor.status is FactorStatus.VERIFIED)
    entry = {
        "name": name,
        "service_sid": factor.service_sid,
        "identity": factor.identity,
        "factor_sid": factor.sid,
    }
    return Account(simulator.account_sid, simulator.username, simulator.password, factor.service_sid, entry)


def container(image: str) -> dict[str, Any]:
    """Return the container of the simulator, within the *restricted* Pod Security Standard."""
    return {
        "name": "simulator",
        "image": image,
        "args": ["simulate", f"--port={PORT}", f"--factors={FACTORS}", f"--seed={_SEED}"],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def overlay(values: Mapping[str, Any], account: Account, image: str) -> dict[str, Any]:
    """Return what makes the release of a values file poll the simulator; raises ValueError without one account."""
    accounts = values.get("accounts") or {}
    if len(accounts) != 1:
        raise ValueError("trials need values with one account")
    (name,) = accounts
    watchlist = values.get("watchlist") or {}
    watched: dict[str, Any] = {}
    if watchlist.get("factors"):
        watched["factors"] = [watchlist["factors"][0] | account.factor]
    if watchlist.get("services"):
        watched["services"] = [watchlist["services"][0] | {"service_sid": account.service_sid}]
    return {
        "accounts": {name: {"account_sid": account.account_sid, "username": account.username, "base_url": _URL}},
        "watchlist": watched,
        "config": {"polling": dict.fromkeys(_INTERVALS, "10s")},
        "image": {"registry": "", "repository": image.rpartition(":")[0], "tag": image.rpartition(":")[2]},
        "extraContainers": [container(image)],
    }


def watchlist_file(account: Account) -> str:
    """Return a watchlist file with the verified factor."""
    return "[[factors]]\n" + "".join(f"{key} = {json.dumps(text)}\n" for key, text in account.factor.items())
