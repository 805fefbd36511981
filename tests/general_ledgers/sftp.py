"""A stand-in of a company's SFTP server: paramiko's server over a folder. It accepts one user, and fails like real
servers.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import paramiko
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from paramiko import SFTP_FAILURE, SFTP_OK, SFTP_OP_UNSUPPORTED, SFTPAttributes, SFTPHandle, SFTPServer

from tests.general_ledgers.stand_in import Fault

HOST_KEY = paramiko.ECDSAKey.generate()
OTHER_KEY = paramiko.ECDSAKey.generate()
USER_PEM = (
    ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
)
USER, PASSWORD = "erp", "open sesame & <go>"


def line_of(key: paramiko.PKey) -> str:
    """Returns a key as in ``known_hosts``, without the host."""
    return f"{key.get_name()} {key.get_base64()}"


class SftpStandIn:
    """``wants``: the login method of the user. ``posix_rename``: it has this extension. ``full``: its disk is full.
    ``drops_uploads``: number of bytes after which it ends an upload. ``silent``: it accepts connections and does not
    answer. ``late_s``: delay of a late rename; None if the rename arrives when ``arrive`` is called. ``late``: set
    after the late rename.
    """

    late_s: float | None = 0.3
    time_out_s = 2.0

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wants: tuple[str, ...] = ("password",)
        self.user_key: paramiko.PKey | None = None
        self.posix_rename = True
        self.full = False
        self.drops_uploads: int | None = None
        self.silent = False
        self.late = threading.Event()
        self.arrive: Callable[[], None] = lambda: None
        self.fault: Callable[[], Fault | None] = lambda: None
        self.met: list[Fault | None] = []
        self.logins = 0
        self._transports: list[paramiko.Transport] = []
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            if self.silent:
                self._sockets.append(connection)
                continue
            transport = paramiko.Transport(connection)
            transport.add_server_key(HOST_KEY)
            transport.set_subsystem_handler("sftp", SFTPServer, _Files, self, transport)
            transport.start_server(server=_Session(self), event=threading.Event())
            self._transports.append(transport)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for open_one in (*self._transports, *self._sockets):
            open_one.close()

    def _do_late(self, do: Callable[[], int]) -> None:
        do()
        self.late.set()

    def renamed(self, transport: paramiko.Transport, do: Callable[[], int]) -> int:
        """Runs a rename, with its fault."""
        fault = self.fault()
        self.met.append(fault)
        if fault == "fails_before":
            return int(SFTP_FAILURE)
        if fault in ("drops_before", "late"):
            if fault == "late":
                self.arrive = partial(self._do_late, do)
                if self.late_s is not None:
                    threading.Timer(self.late_s, self.arrive).start()
            transport.close()
            return int(SFTP_FAILURE)
        answer = do()
        if fault == "drops_after":
            transport.close()
        if fault == "times_out_after":
            time.sleep(self.time_out_s)
        return int(SFTP_FAILURE) if fault == "fails_after" else answer


class _Session(paramiko.ServerInterface):
    def __init__(self, standing: SftpStandIn) -> None:
        self.standing = standing
        self.left = list(standing.wants)

    def get_allowed_auths(self, _username: str) -> str:
        return ",".join(self.left)

    def _step(self, way: str, right: bool) -> int:
        if not right or way not in self.left:
            return int(paramiko.AUTH_FAILED)
        self.left.remove(way)
        self.standing.logins += not self.left
        return int(paramiko.AUTH_PARTIALLY_SUCCESSFUL if self.left else paramiko.AUTH_SUCCESSFUL)

    def check_auth_password(self, username: str, password: str) -> int:
        return self._step("password", (username, password) == (USER, PASSWORD))

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._step("publickey", username == USER and key == self.standing.user_key)

    def check_channel_request(self, _kind: str, _chanid: int) -> int:
        return int(paramiko.OPEN_SUCCEEDED)


class _File(SFTPHandle):
    def __init__(self, files: _Files, flags: int, file: Any) -> None:
        super().__init__(flags)
        self.files, self.readfile, self.writefile = files, file, file
        self.written = 0

    def write(self, offset: int, data: bytes) -> int:
        standing = self.files.standing
        if standing.full:
            return int(SFTP_FAILURE)
        if standing.drops_uploads is not None:
            part = data[: standing.drops_uploads]
            standing.drops_uploads = None
            super().write(offset, part)
            self.files.transport.close()
            return int(SFTP_FAILURE)
        return int(super().write(offset, data))


class _Files(paramiko.SFTPServerInterface):
    def __init__(self, server: Any, standing: SftpStandIn, transport: paramiko.Transport) -> None:
        super().__init__(server)
        self.standing, self.transport = standing, transport

    def _real(self, path: str) -> Path:
        return self.standing.root / self.canonicalize(path).lstrip("/")

    def _told(self, do: Callable[[], Any]) -> Any:
        try:
            return do()
        except OSError as error:
            return SFTPServer.convert_errno(error.errno)

    def stat(self, path: str) -> Any:
        return self._told(lambda: SFTPAttributes.from_stat(self._real(path).stat()))

    def open(self, path: str, flags: int, _attributes: SFTPAttributes) -> Any:
        def opened() -> _File:
            descriptor = os.open(self._real(path), flags, 0o644)
            return _File(self, flags, os.fdopen(descriptor, "wb" if flags & os.O_WRONLY else "rb", buffering=0))

        return self._told(opened)

    def remove(self, path: str) -> Any:
        def removed() -> int:
            self._real(path).unlink()
            return int(SFTP_OK)

        return self._told(removed)

    def rename(self, path: str, to: str) -> Any:
        def renamed() -> int:
            if self._real(to).exists():
                return int(SFTP_FAILURE)
            self._real(path).rename(self._real(to))
            return int(SFTP_OK)

        return self.standing.renamed(self.transport, lambda: int(self._told(renamed)))

    def posix_rename(self, path: str, to: str) -> Any:
        if not self.standing.posix_rename:
            return SFTP_OP_UNSUPPORTED

        def replaced() -> int:
            self._real(path).replace(self._real(to))
            return int(SFTP_OK)

        return self.standing.renamed(self.transport, lambda: int(self._told(replaced)))
