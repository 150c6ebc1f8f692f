"""Write the tables of faults into docs/reliability.md; their truth is what the tests beside are for."""

from __future__ import annotations

from tests.support.proofs.fault_matrix_report import matrix_table
from tests.support.proofs.file_matrix import file_table
from tests.support.proofs.process_faults import process_table
from tests.support.proofs.reliability_page import write_section

if __name__ == "__main__":
    write_section("fault-matrix", matrix_table())
    write_section("file-matrix", file_table())
    write_section("process-faults", process_table())
