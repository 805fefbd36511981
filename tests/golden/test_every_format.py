"""Every format of every general ledger fulfils one contract; one that is added without it fails here."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.exports.formats import FORMATS, TARGETS
from projections.exports.formats.target import new_settings
from subledger.errors import InvalidInput
from tests.golden import (
    test_formats_dynamics,
    test_formats_intacct,
    test_formats_netsuite,
    test_formats_oracle,
    test_formats_quickbooks,
    test_formats_sap,
)
from tests.golden.contract import GOLDEN, Contract, assert_fulfils, file_of
from tests.reading import zip_members

TARGETS_TESTED = {
    "dynamics": test_formats_dynamics, "intacct": test_formats_intacct, "netsuite": test_formats_netsuite,
    "oracle": test_formats_oracle, "quickbooks": test_formats_quickbooks, "sap": test_formats_sap,
}  # fmt: skip
CONTRACTS: dict[str, Contract] = {
    contract.form: contract for module in TARGETS_TESTED.values() for contract in module.CONTRACTS
}
CASES = [
    pytest.param(contract, case, id=f"{contract.form} {case}")
    for contract in CONTRACTS.values()
    for case in contract.cases
]
NO_TARGET_TAKES: list[tuple[dict[str, Any], str]] = [
    ({"level": "event"}, "level"), ({"lines": 1}, "lines"), ({"lines": -3}, "lines"), ({"no_such": "x"}, "settings"),
    ({"title": "Prepaid\ncredits"}, "title"), ({"title": "Prepaid\u2028credits"}, "title"),
    ({"dimensions": {"region\r": "x"}}, "dimensions"), ({"dimensions": {"region": "x\x85"}}, "dimensions"),
]  # fmt: skip
BAD_SETTINGS = [
    pytest.param(target, settings, field, id=f"{target} {settings}")
    for target, module in TARGETS_TESTED.items()
    for settings, field in (*NO_TARGET_TAKES, *module.BAD_SETTINGS)
]


def test_every_format_of_a_general_ledger_has_its_contract() -> None:
    """Documents block by block (``by_block``) are no journal: tests/store/test_documents_once.py and NetSuite's own."""
    assert CONTRACTS.keys() == {form.name for form in FORMATS.values() if form.target and not form.by_block}
    assert TARGETS_TESTED.keys() == TARGETS.keys()


@pytest.mark.parametrize(("contract", "case"), CASES)
def test_the_files_are_the_agreed_ones_to_the_byte(contract: Contract, case: str) -> None:
    file = file_of(contract, contract.cases[case]())
    found = zip_members(file) if file.startswith(b"PK") else {"": file}
    assert found == {member: (GOLDEN / contract.golden(case, member)).read_bytes() for member in found}


@pytest.mark.parametrize(("contract", "case"), CASES)
def test_the_files_say_the_journal(contract: Contract, case: str) -> None:
    assert_fulfils(contract, contract.cases[case]())


@pytest.mark.parametrize("contract", CONTRACTS.values(), ids=CONTRACTS)
@given(data=st.data())
def test_the_files_of_any_journal_say_it(contract: Contract, data: st.DataObject) -> None:
    assert_fulfils(contract, data.draw(contract.renderings))


@pytest.mark.parametrize(("target", "settings", "field"), BAD_SETTINGS)
def test_settings_that_cannot_be_are_refused_with_their_field(
    target: str, settings: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        new_settings(TARGETS[target].settings, settings)
    assert refused.value.field == field
