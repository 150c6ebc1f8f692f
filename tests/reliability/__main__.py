"""Write the fault matrix into docs/reliability.md; its truth is what test_matrix.py is for."""

from __future__ import annotations

from tests.support.proofs.fault_matrix_report import matrix_table
from tests.support.proofs.reliability_page import write_section

if __name__ == "__main__":
    write_section("fault-matrix", matrix_table())
