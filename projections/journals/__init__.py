"""Account mappings, and the journals that are handed over to the general ledger."""
