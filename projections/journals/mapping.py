"""The account mapping: role (+ product, credit kind, currency) → GL account. Filled in by the exports' author."""

from __future__ import annotations

from subledger.journal import Dimensions  # noqa: F401
import msgspec


class Mapping(msgspec.Struct, frozen=True, kw_only=True):
    rows: tuple[dict[str, str], ...]

    @property
    def content_hash(self) -> str:
        return "0" * 64


def default_mapping() -> Mapping:
    return Mapping(rows=())
