"""Delivery: journals on their way into the general ledger, each of them exactly once.

    states      what a delivery can be, and what may follow
    channels    where a ledger's journals go, and how: what a company sets
    outbox      the deliveries, and every step of each, in the database
    by_hand     what a person does: try again, take out, tie out
    calls       calls of another system: limited, timed, kept as they were, without secrets
    connectors  one module a system: put a journal in, look one up
    sending     the way of a delivery, step by step
    jobs        what a worker does, and when
    tying       the target's own trial balance

A journal becomes deliveries in the outbox: one a document where the system takes documents, else one for the file. What
has no answer is looked up by the name that the system knows it by, and is sent again only when it is not there.
"""
