"""Reading the documents of this repository for tests: chapters, commands, and the shown output."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

ROOT: Final = Path(__file__).parents[2]
READMES: Final = tuple(
    ROOT / path
    for path in (
        "README.md",
        "projections/README.md",
        "api/README.md",
        "subledger/README.md",
        "subledger/SIZING.md",
        "tests/README.md",
        "tests/benchmarks/README.md",
        "tests/examples/README.md",
    )
)
"""All documents with commands, in the order in which a newcomer reads them."""
DOCUMENTS: Final = (
    *READMES,
    *(ROOT / path for path in ("CHANGELOG.md", "subledger/DECISIONS.md", "subledger/ERRORS.md", "tests/MUTATION.md")),
)

_NOT_RUN: Final = re.compile(r"<!-- not run: (.+) -->")


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A fenced block. ``not_run`` is the reason why the test does not run its commands."""

    chapter: str
    language: str
    text: str
    not_run: str | None

    @property
    def has_commands(self) -> bool:
        return self.language == "sh"


def blocks_of(document: Path) -> list[Block]:
    """Returns the fenced blocks of a document, in their order."""
    found: list[Block] = []
    chapter, language, not_run = "", None, None
    lines: list[str] = []
    for line in document.read_text("utf-8").splitlines():
        if language is not None and line == "```":
            found.append(Block(chapter=chapter, language=language, text="\n".join(lines), not_run=not_run))
            language, not_run, lines = None, None, []
        elif language is not None:
            lines.append(line)
        elif line.startswith("```"):
            language = line[3:]
        elif line.startswith("#"):
            chapter = line.lstrip("# ")
        elif marked := _NOT_RUN.fullmatch(line):
            not_run = marked[1]
    assert language is None, f"{document}: a block is not closed"
    return found


def commands_of(document: Path) -> Iterator[str]:
    """Yields every command ``subledger …`` of a document, in blocks and between backticks."""
    for block in blocks_of(document):
        if block.has_commands:
            text = re.sub(r"<<'(\w+)'\n.*?\n\1", "", block.text, flags=re.DOTALL)
            for line in re.split(r"\n|\| |\$\(|&& ", text):
                if line.startswith("subledger "):
                    yield line.partition(" #")[0].partition(" || ")[0].partition(" > ")[0]
    for inline in re.findall(r"`(subledger [^`]+)`", document.read_text("utf-8").replace("\n", " ")):
        yield inline.partition(" > ")[0]


def anchors_of(document: Path) -> set[str]:
    """Returns the anchors of a document's headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links_of(document: Path) -> list[tuple[str, str]]:
    """Returns the links of a document to files of this repository: path (empty: the document itself) and anchor."""
    text = re.sub(r"```.*?```", "", document.read_text("utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [(path, anchor) for path, _, anchor in (target.partition("#") for target in targets) if ":" not in path]


def paths_of(document: Path) -> set[str]:
    """Returns the files and folders that a document names between backticks, with their whole path."""
    tops = "subledger|projections|api|migrations|tests"
    return set(re.findall(rf"`((?:{tops})/[\w/.-]+)`", document.read_text("utf-8")))
