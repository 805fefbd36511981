"""Tie-out over a channel: reading the general ledger's trial balance, and reconciling the deliveries.

Owns: reading the trial balance. Does not own: the comparison (tie_out), the calls to a general ledger (connectors).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from projections.delivery import by_hand, deliveries
from projections.delivery.channels import Channel, check_allowed, get_channel, turn_of
from projections.delivery.deliveries import Delivery
from projections.delivery.states import IN_THE_BOOKS
from projections.delivery.tie_out import Theirs, TieOut, tie_out
from projections.exports.targets import settings_of
from subledger.errors import NotAnswered
from subledger.external import bounded_http
from subledger.external.calls import Calls, NotSent, Unclear
from subledger.periods import Period
from subledger.store.database import Database
from subledger.store.reading.ledgers import ledger_head


def ask_trial_balance(database: Database, channel: Channel, periods: Sequence[Period]) -> list[Theirs]:
    """Reads the movements of the general ledger's accounts in some months.

    Raises NotAnswered, NotSupportedYet, and the errors of ``channels.check_allowed``.
    """
    with database.read() as connection:
        currency = ledger_head(connection, channel.ledger).state.functional_currency
        target = channel.format.target
        settings = None if target is None else settings_of(connection, channel.ledger, target)
    check_allowed(database, channel)
    with bounded_http.client() as client:
        calls = Calls(client, timeout_s=channel.settings.timeout_s, turn=turn_of(database, channel))
        connector = channel.connector(channel.settings, calls, {})
        try:
            return connector.trial_balance(periods, currency, settings)
        except (NotSent, Unclear) as error:
            raise NotAnswered(f"{channel.destination} gave no trial balance: {error}", channel=channel.name) from error
        except (ValueError, KeyError, TypeError) as error:
            raise NotAnswered(
                f"the trial balance of {channel.destination} cannot be read: {error!r}", channel=channel.name
            ) from error


def months_delivered(database: Database, channel: Channel) -> list[Period]:
    """The months with journals that are posted in the general ledger through this channel, in order."""
    with database.read() as connection:
        found = deliveries.list_deliveries(connection, channel.ledger, channel=channel.name, states=tuple(IN_THE_BOOKS))
    return sorted({delivery.period for delivery in found})


def tie_out_channel(
    database: Database,
    ledger: str,
    name: str,
    theirs: Sequence[Theirs] | None = None,
    *,
    periods: Sequence[Period] = (),
    accounts: Collection[str] = (),
    by: str,
) -> tuple[TieOut, list[Delivery]]:
    """Compares the general ledger behind a channel with the handed-over journals, and reconciles the posted deliveries.

    ``theirs``: the general ledger's rows. If None, they are read from it, for ``periods`` or for the delivered months.
    Raises UnknownChannel, NotAnswered, NotSupportedYet, and the errors of a tie-out.
    """
    with database.read() as connection:
        channel = get_channel(connection, ledger, name)
    if theirs is None:
        months = list(periods) or months_delivered(database, channel)
        theirs = ask_trial_balance(database, channel, months) if months else []
        theirs += [row for row in _silence(months) if row.period not in {found.period for found in theirs}]
    with database.read() as connection:
        found = tie_out(connection, ledger, theirs, accounts=accounts)
    return found, by_hand.reconcile(database, ledger, found, channel.destination, by=by)


def _silence(months: Sequence[Period]) -> list[Theirs]:
    """Adds a row of zero for each month without rows from the general ledger, so that it is compared too."""
    return [Theirs(account="", period=month, moved=0) for month in months]
