"""Connectors to general ledgers, one module each.

Owns: the list of connectors. Does not own: the time of sending and looking up (sending).
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

from projections.delivery.connectors.connector import Connector
from subledger.errors import UnknownConnector

CONNECTORS: Final = {
    "netsuite": "NetSuite",
    "intacct": "Intacct",
    "quickbooks": "QuickBooks",
    "sap": "Sap",
    "oracle": "Oracle",
    "dynamics": "Dynamics",
    "folder": "Folder",
    "sftp": "Sftp",
}
"""The module of each connector, and the class in it. A module loads the libraries of its vendor. It is imported when a
channel needs it, because most commands need none.
"""


def connector_named(name: str) -> type[Connector]:
    """Returns the connector class of a name. Raises UnknownConnector."""
    if name not in CONNECTORS:
        raise UnknownConnector(
            f"there is no connector {name[:60]}", field="connector", expected=", ".join(CONNECTORS), found=name[:60]
        )
    connector: type[Connector] = getattr(import_module(f"{__name__}.{name}"), CONNECTORS[name])
    return connector
