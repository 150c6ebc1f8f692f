"""The cases detect every mutant of the rules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from grafana.rules.model import Settings
from grafana.rules.render import document as rules_document
from grafana.rules.render import groups, optional_groups
from tests.rules.test_promtool import CASES
from tests.support.rules.cases import PREFIX, Case, annotation_documents, firing_documents, readable, run
from tests.support.rules.mutants import Mutant, mutants

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.fixtures import Program

pytestmark = [pytest.mark.external, pytest.mark.slow]

GROUPS: dict[str, list[dict[str, Any]]] = {
    group.name.removeprefix("twilio-verify-"): yaml.safe_load(rules_document([group], Settings()))["groups"][0][
        "rules"
    ]
    for group in (*groups(Settings()), *optional_groups(Settings()))
}
# Shares of about the same size, so that several workers can run them.
SHARES = [(group, share) for group in GROUPS for share in range(1 if group == "watchdog" else 4)]


def test_the_groups_are_those_of_the_cases() -> None:
    assert set(GROUPS) == set(CASES)


def promtool_tests(mutant: Mutant, rule: dict[str, Any], cases: tuple[Case, ...], path: Path) -> Iterator[str]:
    """Yield the tests that may detect a mutant, the quickest and likeliest first."""
    if "record" in rule:
        direct = [case for case in cases if any(sample.record == mutant.rule_name for sample in case.samples)]
        yield from firing_documents([path], direct)
        yield from firing_documents([path], [case for case in cases if case not in direct])
        return
    alert_cases = [case for case in cases if PREFIX + case.alert == mutant.rule_name]
    if mutant.rule["annotations"] != rule["annotations"] or mutant.rule["labels"] != rule["labels"]:
        yield from annotation_documents([path], alert_cases)
    else:
        yield from firing_documents([path], alert_cases)
        yield from annotation_documents([path], alert_cases)  # for what changes only the value


def killed(
    promtool: str,
    folder: Path,
    mutant: Mutant,
    rules: list[dict[str, Any]],
    rule: dict[str, Any],
    cases: tuple[Case, ...],
) -> bool:
    """Return whether one of the cases fails when the mutant replaces its rule."""
    needed = [mutant.rule if each is rule else each for each in rules if "record" in each or each is rule]
    if "record" in rule:
        needed = [mutant.rule if each is rule else each for each in rules]
    path = folder / "rules.yaml"
    path.write_text(json.dumps({"groups": [{"name": "mutant", "rules": needed}]}), encoding="utf-8")
    test = folder / "test.yaml"
    for text in promtool_tests(mutant, rule, cases, path):
        test.write_text(text, encoding="utf-8")
        result = run(promtool, test)
        assert "FAILED" in result.stderr or result.returncode == 0, result.stderr
        assert "parse error" not in result.stderr, (mutant, result.stderr)
        if result.returncode != 0:
            return True
    return False


@pytest.mark.parametrize(("group", "share"), SHARES)
def test_no_mutant_survives(
    program: Program, newer_program: Program, tmp_path: Path, group: str, share: int
) -> None:
    promtool = program("promtool", install="apt-get install prometheus")
    cases = readable(promtool, CASES[group])
    rules = GROUPS[group]
    all_mutants = [(rule, mutant) for rule in rules for mutant in mutants(rule)]
    mine = all_mutants[share :: len([each for each in SHARES if each[0] == group])]
    assert len(mine) >= 4
    survivors = [
        (rule, mutant) for rule, mutant in mine if not killed(promtool, tmp_path, mutant, rules, rule, cases)
    ]
    assert [described(mutant) for rule, mutant in survivors if "histogram_count(" not in rule["expr"]] == []
    if survivors:  # of rules that read native histograms, which a newer promtool tells apart
        newer = newer_program("PROMTOOL3")
        assert [
            described(mutant)
            for rule, mutant in survivors
            if not killed(newer, tmp_path, mutant, rules, rule, CASES[group])
        ] == []


def described(mutant: Mutant) -> str:
    return f"{mutant.rule_name}: {mutant.what}"
