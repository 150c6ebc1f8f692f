"""docs/web-config.md is what its generator writes, and its example is a good one."""

from __future__ import annotations

import runpy
from dataclasses import fields
from pathlib import Path

import pytest

from exporter.config.files import FileReader
from exporter.config.webconfig import WebConfig, read
from exporter.web.server.limits import Limits
from tools.reference.web_config import EXAMPLE, render

PAGE = Path(__file__).parents[2] / "docs" / "web-config.md"


def test_the_page_is_what_the_generator_writes() -> None:
    assert PAGE.read_text(encoding="utf-8") == render(), "python -m tools.reference.web_config > docs/web-config.md"


def test_the_generator_runs_as_a_module(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.warns(RuntimeWarning, match="found in sys.modules"):
        runpy.run_module("tools.reference.web_config", run_name="__main__")
    assert capsys.readouterr().out == render()


def test_the_example_is_a_good_file(folder: Path) -> None:
    (folder / "web.yml").write_text(EXAMPLE)
    config = read(folder / "web.yml", FileReader())
    assert isinstance(config, WebConfig), config
    assert config.requires_client_certificate
    assert config.rate is not None
    assert (config.rate.interval_seconds, config.rate.burst) == (0.1, 50)


def test_every_limit_is_listed() -> None:
    for limit in fields(Limits):
        assert limit.metadata["meaning"] in render()
