"""Every connector with its stand-in: the settings of a channel to it, and its content at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.general_ledgers import intacct, netsuite, quickbooks, sap, sftp
from tests.general_ledgers.drops import Importer
from tests.general_ledgers.dynamics import SIGNATURE, DynamicsStandIn
from tests.general_ledgers.oracle import OracleStandIn
from tests.general_ledgers.sftp import SftpStandIn
from tests.general_ledgers.stand_in import Fault, StandIn


class Way(NamedTuple):
    """A way into a stand-in. ``there``: the names of its journals or files, once for each copy. ``met``: the faults of
    submissions. ``secrets``: texts that must not be stored anywhere.
    """

    name: str
    settings: dict[str, Any]
    form: str
    target: str | None
    of_target: dict[str, Any]
    there: Callable[[], list[str]]
    fails: Callable[[Callable[[], Fault | None]], None]
    met: Callable[[], set[str]]
    secrets: tuple[str, ...] = ()
    stand_in: StandIn | None = None


def _secret(folder: Path, name: str, value: str) -> str:
    path = folder / name
    path.write_text(value)
    return f"file:{path}"


def _http(
    name: str, stand_in: StandIn, form: str, settings: dict[str, Any], secrets: tuple[str, ...], **of_target: Any
) -> Way:
    def fails(fault: Callable[[], Fault | None]) -> None:
        stand_in.fault = fault

    return Way(
        name,
        {"connector": name, **settings},
        form,
        name,
        of_target,
        lambda: [str(journal["reference"]) for journal in stand_in.journals],
        fails,
        lambda: {*stand_in.met} - {"None"},
        secrets,
        stand_in,
    )


@contextmanager
def every_way(folder: Path) -> Iterator[dict[str, Way]]:
    """Yields every connector by name, with a stand-in that lives until the end of the context."""
    with ExitStack() as stack:

        def standing(stand_in: Any) -> Any:
            stack.callback(stand_in.close)
            return stand_in

        ways = [
            netsuite_way(standing(netsuite.NetSuiteStandIn()), folder),
            intacct_way(standing(intacct.IntacctStandIn()), folder),
            quickbooks_way(standing(quickbooks.QuickBooksStandIn()), folder),
            sap_way(standing(sap.SapStandIn()), folder),
            oracle_way(standing(OracleStandIn()), folder),
            dynamics_way(standing(DynamicsStandIn()), folder),
            folder_way(folder / "folder"),
            sftp_way(standing(SftpStandIn(folder)), folder),
        ]
        yield {way.name: way for way in ways}


def netsuite_way(stand_in: netsuite.NetSuiteStandIn, folder: Path) -> Way:
    stand_in.unique = False  # harder than the real service: only the look-up prevents a second posting
    settings = {
        "url": stand_in.url,
        "client_id": "client",
        "certificate_id": "certificate",
        "private_key": _secret(folder, "netsuite.pem", netsuite.PEM),
    }
    return _http("netsuite", stand_in, "netsuite-json", settings, ("token-1", "PRIVATE", "eyJ"), approved=True)


def intacct_way(stand_in: intacct.IntacctStandIn, folder: Path) -> Way:
    settings = {
        "url": stand_in.url + intacct.PATH,
        "sender_id": "sender",
        "company_id": "company",
        "user_id": "user",
        "sender_password": _secret(folder, "intacct-sender", intacct.SENDER_PASSWORD),
        "user_password": _secret(folder, "intacct-user", intacct.USER_PASSWORD),
        "throttled_s": 0.05,
    }
    return _http(
        "intacct",
        stand_in,
        "intacct-xml",
        settings,
        ("of the sender", "of&gt; the sender", "session-1"),
        state="Posted",
    )


def quickbooks_way(stand_in: quickbooks.QuickBooksStandIn, folder: Path) -> Way:
    settings = {
        "url": stand_in.url,
        "token_url": stand_in.url + quickbooks.TOKEN,
        "realm_id": "4620816365",
        "client_id": "app",
        "client_secret": _secret(folder, "quickbooks-secret", quickbooks.SECRET),
        "refresh_token": _secret(folder, "quickbooks-refresh", stand_in.refresh_token),
    }
    return _http(
        "quickbooks", stand_in, "quickbooks-json", settings, ("refresh-0", "refresh-1", "access-1", "secret", "Basic")
    )


def sap_way(stand_in: sap.SapStandIn, folder: Path) -> Way:
    settings = {"url": stand_in.url, "user": sap.USER, "password": _secret(folder, "sap", sap.PASSWORD)}
    return _http("sap", stand_in, "sap-xml", settings, (sap.PASSWORD, "Basic "), company_code="1010")


def oracle_way(stand_in: OracleStandIn, folder: Path) -> Way:
    settings = {"url": stand_in.url, "user": stand_in.user, "password": _secret(folder, "oracle", stand_in.password)}
    return _http("oracle", stand_in, "oracle-fbdi", settings, (stand_in.password, "Basic "))


def dynamics_way(stand_in: DynamicsStandIn, folder: Path) -> Way:
    settings = {
        "url": stand_in.url,
        "authority": stand_in.url,
        "tenant": stand_in.tenant,
        "client_id": stand_in.client,
        "client_secret": _secret(folder, "dynamics", stand_in.secret),
    }
    return _http(
        "dynamics", stand_in, "dynamics-csv", settings, (stand_in.secret, "access-1", SIGNATURE), company="USMF"
    )


def folder_way(folder: Path) -> Way:
    """Returns the way into a folder. Files do not fail by themselves, so workers are killed during their delivery."""
    importer = Importer(folder)

    def there() -> list[str]:
        importer.take()
        return [name for name, _ in importer.taken]

    return Way("folder", {"connector": "folder", "directory": str(folder)}, "csv", None, {}, there, lambda _: None, set)


def sftp_way(stand_in: SftpStandIn, folder: Path) -> Way:
    importer = Importer(folder / "drop")

    def there() -> list[str]:
        importer.take()
        return [name for name, _ in importer.taken]

    def fails(fault: Callable[[], Fault | None]) -> None:
        stand_in.fault = fault

    settings = {
        "connector": "sftp",
        "host": "127.0.0.1",
        "port": stand_in.port,
        "user": sftp.USER,
        "host_key": sftp.line_of(sftp.HOST_KEY),
        "password": _secret(folder, "sftp", sftp.PASSWORD),
        "directory": "/drop",
    }
    return Way(
        "sftp", settings, "json", None, {}, there, fails, lambda: {fault for fault in stand_in.met if fault is not None}
    )
