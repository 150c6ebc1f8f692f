"""Files of a configuration, and everything that may become of a file while an exporter runs."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Step = tuple[str, str, int]
"""What happens to a file, its name, and a number: the size of a cut, or which of the other contents it gets."""

UNREADABLE = Path("/proc/self/mem")  # a regular file whose first byte can't be read, not even by root


@dataclass(frozen=True, slots=True)
class DamagedFiles:
    """The right contents by file name; ``others`` are valid contents that a file may be replaced by."""

    directory: Path
    whole: Mapping[str, bytes]
    others: Mapping[str, Sequence[bytes]] = field(default_factory=dict)

    def restore(self) -> None:
        """Write the right content into every file."""
        for name in self.whole:
            self.damage("restore", name)

    def steps(self, longest: int = 8) -> st.SearchStrategy[list[Step]]:
        """Return sequences of what may happen to the files."""
        kinds = ["restore", "remove", "pipe", "directory", "loop", "unreadable", "comment"]
        names = st.sampled_from([*self.whole])
        happening = [
            st.tuples(st.just("cut"), names, st.one_of(st.just(0), st.integers(0, 3000))),
            st.tuples(st.sampled_from(kinds), names, st.just(0)),
        ]
        if self.others:
            happening.append(st.tuples(st.just("replace"), st.sampled_from([*self.others]), st.integers(0, 9)))
        return st.lists(st.one_of(happening), max_size=longest)

    def damage(self, how: str, name: str, number: int = 0) -> None:
        """Let something happen to a file."""
        path, whole = self.directory / name, self.whole[name]
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        match how:
            case "restore":
                path.write_bytes(whole)
            case "cut":
                path.write_bytes(whole[: number % (len(whole) + 1)])
            case "replace":
                path.write_bytes(self.others[name][number % len(self.others[name])])
            case "comment":
                path.write_bytes(b"\n# nothing\n")
            case "pipe":
                os.mkfifo(path)
            case "directory":
                path.mkdir()
            case "loop":
                path.symlink_to(path)
            case "unreadable":
                path.symlink_to(UNREADABLE)
            case "remove":
                pass
            case _:
                raise ValueError(how)
