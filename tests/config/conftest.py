"""Fixtures of the configuration's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import pytest

from exporter.config import Config, ConfigError, load

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path


class Loading(Protocol):
    """Loads a configuration that is given as text."""

    def __call__(
        self,
        text: str,
        *,
        environ: Mapping[str, str] = ...,
        flags: Mapping[str, Any] = ...,
        known_families: Collection[str] = ...,
        **files: str | bytes,
    ) -> Config:
        """Write config.toml and other files (``_dot_`` stands for a dot in a name), and load it."""


class Refusing(Protocol):
    """Loads a configuration that is refused."""

    def __call__(self, text: str, **options: Any) -> list[str]:
        """Return the errors' texts, without the directory."""


@pytest.fixture
def load_text(tmp_path: Path) -> Loading:
    def loading(
        text: str,
        *,
        environ: Mapping[str, str] | None = None,
        flags: Mapping[str, Any] | None = None,
        known_families: Collection[str] = (),
        **files: str | bytes,
    ) -> Config:
        (tmp_path / "config.toml").write_text(text, encoding="utf-8")
        for name, content in files.items():
            path = tmp_path / name.replace("_dot_", ".")
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load(
            tmp_path / "config.toml",
            environ=environ or {},
            flags=flags or {},
            known_families=known_families,
        )

    return loading


@pytest.fixture
def errors_of(load_text: Loading, tmp_path: Path) -> Refusing:
    def refusing(text: str, **options: Any) -> list[str]:
        with pytest.raises(ConfigError) as refused:
            load_text(text, **options)
        return [str(detail).replace(f"{tmp_path}/", "") for detail in refused.value.errors]

    return refusing
