"""Delivery: journals on their way into the general ledger, each of them exactly once.

    states        the states of a delivery, and the steps between them
    channels      the channels of a ledger: connector, format and settings
    outbox        adding deliveries, claiming and moving them, with a step for each move
    deliveries    reading deliveries, and every step of each
    arrivals      the state of a month's journals in a general ledger
    by_hand       steps by a person: retry, take out, mark as reconciled
    connectors    one module for each system: submit a journal, look one up
    sending       the way of a delivery, step by step
    channel_task  the task of a worker: deliver the due deliveries of a channel
    tie_out       the trial balance of a target compared with the journals
    tying         reading the trial balance of a target, and reconciling deliveries
    checklist     the steps of a month end, and the state of each

A journal becomes deliveries in the outbox: one for each document if the target takes documents, else one for the file.
A delivery without an answer is looked up by its reference. It is sent again only if the target does not have it. Calls,
credentials and the job queue are in ``subledger.external``.
"""
