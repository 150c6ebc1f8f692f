"""The long proofs, which also run by hand at full size."""
