"""A folder of an SFTP server, into which the export's file is put for an importer.

The server's host key is a setting of the channel; a server with another key is refused. Each step (look, upload,
rename) has a connection of its own. An upload is read back before it is renamed. OpenSSH renames in one step
(``posix-rename@openssh.com``), after a look for an existing file. A server without this extension uses the rename of
the protocol: it fails if the file exists, and may be a link followed by an unlink.

Documented and tested: protocol and extension, with OpenSSH 9.2. To be tried: if data that a server has acknowledged is
on its disk (the protocol has no request for it); if the user may read the files that it has put there. A folder that
can only be written into is not suitable.

Sources: draft-ietf-secsh-filexfer-02, sections 6.5 and 7; OpenSSH's PROTOCOL, section 4.3; paramiko's documentation.
"""

from __future__ import annotations

import binascii
import errno
import io
import logging
import socket
import stat
import threading
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, ClassVar, Final

import paramiko
from msgspec import Meta

from projections.delivery.connectors import connector
from projections.delivery.connectors.drop import Drop, DropSettings, ImportFolder
from subledger.errors import InvalidInput
from subledger.external import credentials
from subledger.external.calls import NotAuthorised, NotSent, Unclear
from subledger.external.credentials import Credential
from subledger.external.hosts import connect_checked

# Paramiko's messages about failures are in the stored reasons. Without a handler they would also go to the error
# output.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_FAILURES: Final = (OSError, EOFError, paramiko.SSHException, paramiko.SFTPError)
"""All errors that paramiko raises if a server refuses a request or is gone."""
_PRIVATE_KEYS: Final = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)


class Settings(DropSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of a channel to an SFTP server.

    ``host_key``: of the server, as a line of ``known_hosts`` or of ``ssh-keyscan``; several lines while it changes.
    ``user`` with ``key``, a private key in PEM or OpenSSH's form, and its ``key_password``; or ``user`` with
    ``password``. Some servers need both. ``directory``: the path on the server.
    """

    host: Annotated[str, Meta(min_length=1, max_length=253)]
    user: Annotated[str, Meta(min_length=1, max_length=100)]
    host_key: str
    port: Annotated[int, Meta(ge=1, le=65_535)] = 22
    key: Credential = ""
    key_password: Credential = ""
    password: Credential = ""

    def check(self) -> None:
        super().check()
        connector.check_host(self.host)
        _host_keys(self.host_key)
        if not self.key and not self.password:
            raise InvalidInput("a key or a password must be named", field="key", expected="env:… or file:…")


class Sftp(Drop):
    """See the module."""

    name: ClassVar[str] = "sftp"
    settings_type: ClassVar[type[connector.ChannelSettings]] = Settings
    destination_fields: ClassVar[tuple[str, ...]] = ("host", "port", "directory")
    lines_fields: ClassVar[tuple[str, ...]] = ("host_key",)

    @property
    def url(self) -> str:
        settings: Settings = self.settings
        return f"sftp://{settings.host}:{settings.port}/{settings.directory.lstrip('/')}"

    @contextmanager
    def opened(self) -> Iterator[ImportFolder]:
        settings: Settings = self.settings
        self.calls.take_turn()
        with _errors(f"{settings.host} cannot be reached"):
            transport = paramiko.Transport(
                connect_checked(
                    settings.host,
                    settings.port,
                    lambda address: socket.create_connection((address, settings.port), timeout=settings.timeout_s),
                )
            )
        # Some waits of paramiko have no limit of their own.
        limit = threading.Timer(settings.timeout_s, transport.close)
        limit.daemon = True
        limit.start()
        try:
            with _errors(f"{settings.host} cannot be reached"):
                self._greet(transport)
                self._log_in(transport)
                channel = transport.open_session(timeout=settings.timeout_s)
                channel.settimeout(settings.timeout_s)
                channel.invoke_subsystem("sftp")
                folder = _RemoteFolder(paramiko.SFTPClient(channel), settings.directory)
            folder.check_folder("")
            limit.cancel()
            yield folder
        finally:
            limit.cancel()
            transport.close()

    def _greet(self, transport: paramiko.Transport) -> None:
        """Agrees on keys with the server. Raises NotAuthorised if its host key is not the one in the settings."""
        settings: Settings = self.settings
        known = _host_keys(settings.host_key)
        kinds = [kind for key in known for kind in _algorithms(key)]
        transport.get_security_options().key_types = tuple(dict.fromkeys(kinds))
        transport.banner_timeout = transport.auth_timeout = transport.handshake_timeout = settings.timeout_s
        try:
            transport.start_client(timeout=settings.timeout_s)
        except paramiko.ssh_exception.IncompatiblePeer as error:
            raise NotAuthorised(f"{settings.host} has no host key of the kinds in the settings: {error}") from error
        shown = transport.get_remote_server_key()
        if shown not in known:
            raise NotAuthorised(
                f"{settings.host} shows another host key than the configured one: {shown.get_name()} "
                f"{shown.fingerprint}; do not send anything before you know why"
            )

    def _log_in(self, transport: paramiko.Transport) -> None:
        settings: Settings = self.settings
        key = self._private_key() if settings.key else None
        password = self.calls.hide(credentials.read(settings.password))
        try:
            more = transport.auth_publickey(settings.user, key) if key is not None else ["password"]
            if more and password:
                more = transport.auth_password(settings.user, password)
        except paramiko.AuthenticationException as error:
            # Paramiko also raises this error if the connection ends before the server has decided about the user.
            is_refused = transport.is_active() or isinstance(error, paramiko.BadAuthenticationType)
            kind = NotAuthorised if is_refused else NotSent
            raise kind(f"{settings.host} does not let {settings.user} in: {error}") from error
        if more:
            raise NotAuthorised(f"{settings.host} wants {', '.join(more)} of {settings.user} as well")

    def _private_key(self) -> paramiko.PKey:
        settings: Settings = self.settings
        text = self.calls.hide(credentials.read(settings.key))
        password = self.calls.hide(credentials.read(settings.key_password)) or None
        reasons = []
        for kind in _PRIVATE_KEYS:
            try:
                return kind.from_private_key(io.StringIO(text), password=password)
            except (paramiko.SSHException, ValueError, IndexError) as error:
                reasons.append(f"{kind.__name__}: {error}")
        raise NotAuthorised(f"the private key {settings.key} cannot be read: {'; '.join(reasons)}")


class _RemoteFolder:
    """A folder of a server."""

    def __init__(self, client: paramiko.SFTPClient, directory: str) -> None:
        self._client = client
        self._directory = directory

    def _path(self, name: str) -> str:
        return f"{self._directory.rstrip('/')}/{name}" if name else self._directory

    def check_folder(self, name: str) -> None:
        path = self._path(name)
        with _errors(f"the server has no folder {path}"):
            mode = self._client.stat(path).st_mode
            if mode is not None and not stat.S_ISDIR(mode):
                raise NotSent(f"{path} is no folder on the server")

    def read(self, name: str, *, at_most: int) -> bytes | None:
        with _errors(f"{name} cannot be read"):
            try:
                with self._client.open(self._path(name), "rb") as file:
                    return bytes(file.read(at_most))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        # An existing file is removed and a new one created, so that the target of a link in its place is never written
        # to.
        self.remove(name)
        with _errors(f"{name} cannot be written"), self._client.open(self._path(name), "wxb") as file:
            file.write(content)

    def remove(self, name: str) -> None:
        with _errors(f"{name} cannot be removed"):
            try:
                self._client.remove(self._path(name))
            except FileNotFoundError:
                return

    def move(self, name: str, to: str) -> None:
        if self.read(to, at_most=0) is not None:
            raise NotSent(f"there is a file {to}")
        try:
            self._rename(self._path(name), self._path(to))
        except _FAILURES as error:
            if _refused(error) and getattr(error, "errno", None) != errno.ENOENT:
                kind = NotAuthorised if isinstance(error, PermissionError) else NotSent
                raise kind(f"{to} was not put there: {error}") from error
            # Either there is no answer, or the part does not exist: somebody else may have renamed it.
            raise Unclear(f"{to} may have been put there: {type(error).__name__}: {error}") from error

    def _rename(self, path: str, to: str) -> None:
        try:
            self._client.posix_rename(path, to)
        except OSError as error:
            if not _refused(error) or error.errno is not None:
                raise
            # The server gave no specific reason, as one does that does not know the extension.
            self._client.rename(path, to)


def _refused(error: BaseException) -> bool:
    """True if the server answered that it does not support the request. False if the connection has failed.

    Paramiko raises a plain error for a refusal, and sets its number if the protocol has one. It raises the same error
    if the channel was closed before anything was sent. Nothing was done in that case either.
    """
    return isinstance(error, OSError) and not isinstance(error, TimeoutError | ConnectionError)


@contextmanager
def _errors(operation: str) -> Iterator[None]:
    try:
        yield
    except _FAILURES as error:
        kind = NotAuthorised if isinstance(error, PermissionError) else NotSent
        raise kind(f"{operation}: {str(error) or type(error).__name__}") from error


def _host_keys(text: str) -> list[paramiko.PKey]:
    """Reads keys from lines of ``known_hosts``, with or without the host. Raises InvalidInput."""
    keys = []
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        kind, *rest = words if words[0].startswith(("ssh-", "ecdsa-")) else words[1:] or [""]
        try:
            keys.append(paramiko.PKey.from_type_string(kind, b64decode("".join(rest[:1]), validate=True)))
        except (paramiko.SSHException, paramiko.pkey.UnknownKeyType, binascii.Error, ValueError, IndexError):
            raise InvalidInput(
                "the host key cannot be read", field="host_key", expected="a line of known_hosts", found=line[:200]
            ) from None
    if not keys:
        raise InvalidInput("the server's host key must be set", field="host_key", expected="a line of known_hosts")
    return keys


def _algorithms(key: paramiko.PKey) -> tuple[str, ...]:
    """The signature algorithms of a server that has this key."""
    return ("rsa-sha2-512", "rsa-sha2-256") if key.get_name() == "ssh-rsa" else (key.get_name(),)
