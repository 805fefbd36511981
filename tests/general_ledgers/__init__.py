"""Stand-ins of general ledgers' APIs on loopback, and deliveries into them."""
