"""A hundred hostile clients at the same time: the times of /healthz meanwhile, and the memory of the server.

    make bench-hostile
    python -m tests.benchmarks.hostile --clients 20 --seconds 3

The server is a real `subledger serve` on its own embedded database. The hostile clients run in another process, at a
low priority, as if they were on other machines. Each client repeats one of ``WAYS``. Half of the ways need no key. The
others have a valid key, because the owner of a key may be hostile too.

/healthz is called 20 times a second, each time over a new connection, first without and then with hostile clients. The
memory is that of the server's process. The output says for both goals if they are met.

The machine has other work too, such as that of the hostile clients. So after each call of /healthz a server in a third
process is called. Nobody attacks this server, and it only answers. So its times show the load of the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil

from api.keys import create_key
from api.settings import connect
from subledger.ledger_settings import LedgerSettings
from subledger.store.embedded import server as embedded

HEALTHZ_GOAL_S = 0.2
GROWTH_GOAL = 64 << 20
"""Maximum growth of the server's memory at its peak, in bytes. A body of events may have 32 MiB."""
_PAUSE_S = 0.05
_PIECE = b"x" * 65_536
_OK = b'{"status":"ok"}'
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def _head(method: str, path: str, *headers: str) -> bytes:
    return "\r\n".join((f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", "")).encode()


def _post(path: str, key: str | None, *headers: str) -> bytes:
    authorization = (f"Authorization: Bearer {key}",) if key else ()
    return _head("POST", f"/v1/ledgers/acme/{path}", "Content-Type: application/json", *authorization, *headers)


class Attack:
    """Hostile clients. Each opens one connection after another. A connection lasts until the client is done or the
    server ends it.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self.counts: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()

    async def client(self, way: str, until: float) -> None:
        """Runs one client, which repeats one way."""
        do: Callable[[Connection], Awaitable[None]] = getattr(self, way)
        while time.monotonic() < until:
            writer = None
            try:
                connection = await asyncio.open_connection("127.0.0.1", self._port)
                writer = connection[1]
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await do(connection)
                    self.answers[(await connection[0].read(12))[9:12].decode() or "closed"] += 1
            except (OSError, TimeoutError):
                self.answers["closed"] += 1
            finally:
                self.counts[way] += 1
                if writer is not None:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()

    async def _send(self, connection: Connection, head: bytes, pieces: AsyncIterator[bytes]) -> None:
        connection[1].write(head)
        async for piece in pieces:
            if connection[0].at_eof():
                return
            connection[1].write(piece)
            await connection[1].drain()

    # --- without a key ----------------------------------------------------------------------------------------------

    async def body_of_300_mib(self, connection: Connection) -> None:
        await self._send(connection, _post("exports", None, f"Content-Length: {300 << 20}"), _times(_PIECE, 4_800))

    async def chunks_without_end(self, connection: Connection) -> None:
        head = _post("exports", None, "Transfer-Encoding: chunked")
        await self._send(connection, head, _times(b"10000\r\n" + _PIECE + b"\r\n", 4_800))

    async def header_of_100_mib(self, connection: Connection) -> None:
        await self._send(connection, b"GET /healthz HTTP/1.1\r\nX: ", _times(_PIECE, 1_600))

    async def address_of_100_mib(self, connection: Connection) -> None:
        await self._send(connection, b"GET /", _times(_PIECE, 1_600))

    async def header_byte_by_byte(self, connection: Connection) -> None:
        await self._send(connection, b"GET /healthz HTTP/1.1\r\nX: ", _slowly(b"x"))

    async def half_a_request(self, connection: Connection) -> None:
        connection[1].write(b"GET /healthz HTTP/1.1\r\n")

    async def requests_ahead(self, connection: Connection) -> None:
        await self._send(connection, b"", _times(_head("GET", "/healthz") * 200, 50))

    async def documents_again_and_again(self, connection: Connection) -> None:
        connection[1].write(_head("GET", "/openapi.json"))

    # --- with a key -------------------------------------------------------------------------------------------------

    async def body_of_40_mib_of_events(self, connection: Connection) -> None:
        await self._send(
            connection,
            _post("events", self._key, "Transfer-Encoding: chunked"),
            _times(b"10000\r\n" + _PIECE + b"\r\n", 640),
        )

    async def lists_in_32_mib_of_events(self, connection: Connection) -> None:
        size = 32 << 20
        head = _post("events", self._key, f"Content-Length: {size}")
        await self._send(connection, head, _whole(b"[[]" + b",[]" * ((size - 4) // 3)))

    async def lists_in_1_mib(self, connection: Connection) -> None:
        body = b"[[]" + b",[]" * 349_000 + b"]"
        await self._send(connection, _post("exports", self._key, f"Content-Length: {len(body)}"), _whole(body))

    async def nested_deep(self, connection: Connection) -> None:
        body = b"[" * 200_000 + b"]" * 200_000
        await self._send(connection, _post("exports", self._key, f"Content-Length: {len(body)}"), _whole(body))

    async def key_of_many_parts(self, connection: Connection) -> None:
        text = ".".join(["a"] * 30_000) + "=1"
        body = msgspec.json.encode({"policy": text})
        await self._send(connection, _post("policies", self._key, f"Content-Length: {len(body)}"), _whole(body))

    async def half_a_body(self, connection: Connection) -> None:
        connection[1].write(_post("exports", self._key, "Content-Length: 1000000") + b"{")

    async def answers_not_read(self, connection: Connection) -> None:
        key = f"Authorization: Bearer {self._key}"
        connection[1].write(_head("GET", "/v1/ledgers/acme/reports", key) * 10)
        await asyncio.sleep(2)


WAYS = [name for name in vars(Attack) if not name.startswith("_") and name != "client"]


async def _times(piece: bytes, times: int) -> AsyncIterator[bytes]:
    for _ in range(times):
        yield piece


async def _whole(text: bytes) -> AsyncIterator[bytes]:
    for place in range(0, len(text), len(_PIECE)):
        yield text[place : place + len(_PIECE)]


async def _slowly(piece: bytes) -> AsyncIterator[bytes]:
    while True:
        yield piece
        await asyncio.sleep(0.1)


async def attack(port: int, key: str, clients: int, seconds: float) -> Attack:
    """Runs some clients for some seconds. The ways are assigned to them in turn."""
    made, until = Attack(port, key), time.monotonic() + seconds
    ways = itertools.islice(itertools.cycle(WAYS), clients)
    await asyncio.gather(*(made.client(way, until) for way in ways))
    return made


# --- the effect on other clients
# -------------------------------------------------------------------------------------------


class Seen(msgspec.Struct):
    """Seconds of the calls of /healthz, seconds of the calls of the other server, and memory in bytes, in order."""

    seconds: list[float] = []
    control: list[float] = []
    memory: list[int] = []
    failed: int = 0


def at(seconds: list[float], share: float) -> float:
    """Returns the time that a share of the calls did not exceed."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Watched(msgspec.Struct):
    """The server that is attacked, and the other server, which is not."""

    port: int
    process: psutil.Process
    control_port: int
    key: str


def look_on(watched: Watched, going_on: Callable[[], bool]) -> Seen:
    """Calls /healthz and reads the memory of the server, as long as ``going_on`` returns True."""
    seen = Seen()
    while going_on():
        for port, seconds in ((watched.port, seen.seconds), (watched.control_port, seen.control)):
            began = time.perf_counter()
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                connection.request("GET", "/healthz")
                seen.failed += connection.getresponse().read() != _OK
            except OSError:
                seen.failed += 1
            finally:
                connection.close()
            seconds.append(time.perf_counter() - began)
        seen.memory.append(watched.process.memory_info().rss)
        time.sleep(_PAUSE_S)
    return seen


async def answer_only(port: int) -> None:
    """Runs a server that answers every request like /healthz, and does nothing else."""

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(_OK) + _OK)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(one, "127.0.0.1", port) as server:
        await server.serve_forever()


@contextlib.contextmanager
def _servers(home: Path) -> Iterator[Watched]:
    """Yields a server with a ledger and a key with all rights, and the other server."""
    before = {name: os.environ.get(name) for name in ("SUBLEDGER_HOME", "SUBLEDGER_DATABASE_URL")}
    os.environ["SUBLEDGER_HOME"] = str(home)
    os.environ.pop("SUBLEDGER_DATABASE_URL", None)
    service = connect()
    service.create_ledger("acme", LedgerSettings(currency="USD"))
    key = create_key(service.database, ledger="*", role="admin", name="hostile").secret
    ports = _free_port(), _free_port()
    commands = (
        ["api.cli.main", "serve", "--port", str(ports[0])],
        ["tests.benchmarks.hostile", "--answer-only", str(ports[1])],
    )
    processes = [
        subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        for port, process in zip(ports, processes, strict=True):
            while socket.socket().connect_ex(("127.0.0.1", port)) != 0:
                if process.poll() is not None:
                    raise RuntimeError("a server did not start")
                time.sleep(0.1)
        yield Watched(ports[0], psutil.Process(processes[0].pid), ports[1], key)
    finally:
        for process in processes:
            process.terminate()
            process.wait()
        service.database.close()
        embedded.stop(home)
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


def measure(clients: int, seconds: float) -> dict[str, Any]:
    """Returns the figures before the attack, during the attack, and some seconds later."""
    with tempfile.TemporaryDirectory() as folder, _servers(Path(folder) / "home") as watched:
        # The first rounds create the resources that a server creates once: threads, connections, memory of the
        # allocator.
        for _ in range(3):
            _run(watched, clients, min(seconds, 4.0))
        quiet_until = time.monotonic() + min(seconds, 5.0)
        quiet = look_on(watched, lambda: time.monotonic() < quiet_until)
        busy, counts = _run(watched, clients, seconds)
        calm_until = time.monotonic() + min(seconds, 5.0)
        after = look_on(watched, lambda: time.monotonic() < calm_until)
    return {
        "clients": clients,
        "ways": len(WAYS),
        "seconds": seconds,
        "load": os.getloadavg()[0],
        "attacks": counts,
        "quiet": quiet,
        "busy": busy,
        "memory_before": int(statistics.median(quiet.memory)),
        "memory_peak": max(busy.memory),
        "memory_after": after.memory[-1],
    }


def _run(watched: Watched, clients: int, seconds: float) -> tuple[Seen, str]:
    command = [
        sys.executable,
        "-m",
        "tests.benchmarks.hostile",
        "--clients",
        str(clients),
        "--seconds",
        str(seconds),
        "--attack",
        str(watched.port),
        watched.key,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as attacking:
        seen = look_on(watched, lambda: attacking.poll() is None)
        assert attacking.stdout is not None
        return seen, attacking.stdout.read()


def show(found: dict[str, Any]) -> None:
    """Prints the figures, and for each goal if it is met."""
    print(
        f"{found['clients']} hostile clients in {found['ways']} ways for {found['seconds']:g} s "
        f"(load of the machine: {found['load']:.1f})"
    )
    print(found["attacks"].strip())
    for when in ("quiet", "busy"):
        seen: Seen = found[when]
        for what, seconds in (("/healthz", seen.seconds), ("the server that nobody attacks", seen.control)):
            times = ", ".join(f"p{share * 100:g} {at(seconds, share) * 1000:.1f} ms" for share in (0.5, 0.9, 0.99))
            print(f"{when}: {what}: {len(seconds)} calls, {times}, max {max(seconds) * 1000:.1f} ms")
        print(f"{when}: failed {seen.failed}")
    before, peak, after = (found[f"memory_{name}"] >> 20 for name in ("before", "peak", "after"))
    print(f"memory of the server: {before} MiB before, {peak} MiB at most, {after} MiB after")
    slowest, grown = max(found["busy"].seconds), found["memory_peak"] - found["memory_before"]
    met = slowest < HEALTHZ_GOAL_S and not found["busy"].failed
    print(f"goal: /healthz under {HEALTHZ_GOAL_S * 1000:.0f} ms: {'met' if met else 'missed'}")
    print(f"goal: at most {GROWTH_GOAL >> 20} MiB more: {'met' if grown <= GROWTH_GOAL else 'missed'}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--attack", nargs=2, metavar=("PORT", "KEY"), help=argparse.SUPPRESS)
    parser.add_argument("--answer-only", type=int, metavar="PORT", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.answer_only:
        asyncio.run(answer_only(given.answer_only))
        return 0
    if given.attack:
        os.nice(10)
        made = asyncio.run(attack(int(given.attack[0]), given.attack[1], given.clients, given.seconds))
        print("attacks:", ", ".join(f"{way} {count}" for way, count in made.counts.items()))
        print("answers:", ", ".join(f"{status} × {count}" for status, count in sorted(made.answers.items())))
        return 0
    show(measure(given.clients, given.seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
