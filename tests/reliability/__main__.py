"""Write the fault matrix into docs/reliability.md; its truth is what test_matrix.py is for."""

from __future__ import annotations

from .document import write_section
from .report import matrix_table

if __name__ == "__main__":
    write_section("fault-matrix", matrix_table())
