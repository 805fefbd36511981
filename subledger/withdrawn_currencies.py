"""Withdrawn currencies: the decimals and the last day of each.

Purchases, debts and payments in a withdrawn currency stay in this currency. So its amounts are still read and written.
After its last day nothing new begins in it (deciding/new_bounds).

Owns: the table, from the list of historic denominations of ISO 4217 (currencies that ended since the euro came). The
last day is the day before a currency was replaced as the unit of account, even if cash was accepted longer. For a
currency that circulated beside its successor, it is the last day as legal tender. Does not own: current currencies
(money).
"""

from __future__ import annotations

from datetime import date
from typing import Final

import msgspec


class Withdrawn(msgspec.Struct, frozen=True):
    """A withdrawn currency: its number of decimals, its last day, and the currency that followed it."""

    places: int
    last_day: date
    successor: str


def _replaced(successor: str, last_day: date, **places: int) -> dict[str, Withdrawn]:
    return {code: Withdrawn(count, last_day, successor) for code, count in places.items()}


WITHDRAWN: Final[dict[str, Withdrawn]] = {
    **_replaced(
        "EUR", date(2001, 12, 31), ATS=2, BEF=0, DEM=2, ESP=0, FIM=2, FRF=2, GRD=0, IEP=2, ITL=0, LUF=0, NLG=2, PTE=0
    ),
    **_replaced("MGA", date(2004, 12, 31), MGF=0),
    **_replaced("TRY", date(2005, 12, 31), TRL=0),
    **_replaced("RSD", date(2006, 10, 24), CSD=2),
    **_replaced("EUR", date(2006, 12, 31), SIT=2),
    **_replaced("RON", date(2006, 12, 31), ROL=2),
    **_replaced("AZN", date(2006, 12, 31), AZM=2),
    **_replaced("MZN", date(2006, 12, 31), MZM=2),
    **_replaced("SDG", date(2007, 6, 30), SDD=2),
    **_replaced("EUR", date(2007, 12, 31), CYP=2, MTL=2),
    **_replaced("GHS", date(2007, 12, 31), GHC=2),
    **_replaced("VES", date(2008, 6, 30), VEB=2),
    **_replaced("EUR", date(2008, 12, 31), SKK=2),
    **_replaced("TMT", date(2008, 12, 31), TMM=2),
    **_replaced("EUR", date(2010, 12, 31), EEK=2),
    **_replaced("ZMW", date(2012, 12, 31), ZMK=2),
    **_replaced("EUR", date(2013, 12, 31), LVL=2),
    **_replaced("EUR", date(2014, 12, 31), LTL=2),
    **_replaced("BYN", date(2016, 12, 31), BYR=0),
    **_replaced("STN", date(2017, 12, 31), STD=2),
    **_replaced("MRU", date(2017, 12, 31), MRO=2),
    **_replaced("VES", date(2018, 8, 19), VEF=2),
    **_replaced("CUP", date(2020, 12, 31), CUC=2),
    **_replaced("EUR", date(2022, 12, 31), HRK=2),
    **_replaced("SLE", date(2023, 12, 31), SLL=2),
    **_replaced("ZWG", date(2024, 8, 31), ZWL=2),
    **_replaced("XCG", date(2025, 6, 30), ANG=2),
    **_replaced("EUR", date(2025, 12, 31), BGN=2),
}
"""By code."""
