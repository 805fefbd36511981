"""The ways into general ledgers, one module each.

Owns: their list. Does not own: when something is sent or looked up (sending).
"""

from __future__ import annotations

from typing import Final

from projections.journals.delivery.connectors import dynamics, folder, intacct, netsuite, oracle, quickbooks, sap, sftp
from projections.journals.delivery.connectors.connector import Connector
from subledger.errors import UnknownConnector

CONNECTORS: Final[dict[str, type[Connector]]] = {
    connector.name: connector
    for connector in (
        netsuite.NetSuite,
        intacct.Intacct,
        quickbooks.QuickBooks,
        sap.Sap,
        oracle.Oracle,
        dynamics.Dynamics,
        folder.Folder,
        sftp.Sftp,
    )
}


def connector_named(name: str) -> type[Connector]:
    """Raises UnknownConnector."""
    if name not in CONNECTORS:
        raise UnknownConnector(
            f"there is no connector {name[:60]}", field="connector", expected=", ".join(CONNECTORS), found=name[:60]
        )
    return CONNECTORS[name]
