"""``subledger demo``: a year from the first purchase to a verified ledger."""
