"""The commands of the documents, run unchanged in a shell, as by a new user."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import typer

from api.cli.main import app
from subledger.store.embedded import server as embedded
from tests import waiting
from tests.http.documents import DOCUMENTS, READMES, ROOT, Block, anchors_of, blocks_of, commands_of, links_of, paths_of

README = ROOT / "README.md"
GOES_ON_FROM_THE_TOUR = (ROOT / "projections" / "README.md", ROOT / "api" / "README.md")
RUN = [path for path in READMES if any(block.has_commands and not block.not_run for block in blocks_of(path))]


class Reader:
    """A reader who types a document's commands, in order, in a separate directory and home."""

    def __init__(self, work: Path) -> None:
        self.work = work
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("SUBLEDGER_")}
        self.environment = {**inherited, "PATH": path, "SUBLEDGER_HOME": str(work / ".subledger"), "COLUMNS": "180"}

    def run(self, script: str) -> str:
        """Returns the output of a script. If one of its commands fails, the test fails and shows the output."""
        done = subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", script],
            capture_output=True,
            text=True,
            cwd=self.work,
            env=self.environment,
            timeout=waiting.HANGS_S,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    @contextmanager
    def serving(self, command: str) -> Iterator[str]:
        """Runs the server of a command on a free port. Yields its address."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        words = command.replace("8000", port).split()
        server = subprocess.Popen(words, cwd=self.work, env=self.environment, stderr=subprocess.DEVNULL)

        def is_ready() -> bool:
            assert server.poll() is None, "the server has ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=waiting.HANGS_S):
                    return True
            except (urllib.error.URLError, ConnectionError):
                return False

        try:
            waiting.until(is_ready, "a server that is ready")
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()

    def read(self, blocks: list[Block]) -> None:
        """Runs the commands, and compares the output that the document shows with the printed output."""
        printed, server = "", None
        for block in blocks:
            if block.language == "text":
                shown_is_printed(block, printed)
            elif not block.has_commands or block.not_run:
                continue
            elif block.text.startswith("subledger serve"):
                server = block.text
            elif "curl " in block.text:
                assert server is not None
                with self.serving(server) as address:
                    printed = self.run(block.text.replace("127.0.0.1:8000", address))
                assert '"status":"recorded"' in printed
                assert "urn:subledger:error" not in printed
            else:
                printed = self.run(block.text)
                assert "DIFFERS" not in printed, printed
                assert "│ blocked" not in printed, printed


def shown_is_printed(block: Block, printed: str) -> None:
    """Checks that every shown line was printed, in this order. ``…`` stands for any text within a line."""
    lines = iter(printed.replace("┃", "│").splitlines())
    for shown in block.text.replace("┃", "│").splitlines():
        pattern = re.compile(".*".join(re.escape(part) for part in shown.split("…")))
        assert not shown.strip() or any(pattern.fullmatch(line) for line in lines), (
            f"{block.chapter}: the output has no line, after the ones above it, such as\n{shown}\n\n{printed}"
        )


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    yield Reader(tmp_path)
    embedded.stop(tmp_path / ".subledger")


@pytest.mark.campaign
@pytest.mark.parametrize("document", RUN, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_of_a_document_do_what_it_shows(document: Path, reader: Reader) -> None:
    blocks = blocks_of(document)
    if any("curl " in block.text for block in blocks) and shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    if document in GOES_ON_FROM_THE_TOUR:
        blocks = [*(block for block in blocks_of(README) if "ledger create acme" in block.text), *blocks]
    reader.read(blocks)


def test_every_block_of_commands_is_run_or_says_why_not() -> None:
    """Not run are commands that take long, or that need more than a test has: ``make``, ``bench``, ``distribute``."""
    left_out = [block for document in READMES for block in blocks_of(document) if block.has_commands and block.not_run]
    lines = [line for block in left_out for line in block.text.splitlines() if line]
    assert [
        line for line in lines if not re.match(r"make |subledger (bench|distribute|sizing)\b|git |cd |#", line)
    ] == []
    assert len(RUN) >= 3


ROOT_COMMAND: Any = typer.main.get_command(app)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_that_a_document_names_exists_with_its_options(document: Path) -> None:
    for line in commands_of(document):
        found, words = ROOT_COMMAND, line.split()[1:]
        while words and words[0] in getattr(found, "commands", {}):
            found = found.commands[words.pop(0)]
        assert found is not ROOT_COMMAND or words[0].isupper() or words[0].startswith("--"), line
        options = {name for parameter in found.params for name in (*parameter.opts, *parameter.secondary_opts)}
        named = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z][a-z-]*(=.*)?", word)}
        assert named - {"--help"} <= options, f"{line}: {sorted(named - options)}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for path, anchor in links_of(document):
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), f"{document}: {path}"
        assert not anchor or target.suffix != ".md" or anchor in anchors_of(target), f"{document}: {path}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_file_that_a_document_names_is_there(document: Path) -> None:
    assert [path for path in sorted(paths_of(document)) if not (ROOT / path).exists()] == []


def test_the_first_page_is_short_and_shows_output_early() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("│ ") for line in lines[:40])
