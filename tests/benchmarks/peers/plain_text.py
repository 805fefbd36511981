"""beancount and hledger: a journal as text. ``plain_text.py beancount|hledger FILE``

They do: parse the whole file, check that every transaction balances, and sum every account. hledger runs in a new
process each time.

They do not: write, store, know blocks, points in time or proofs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from in_turns import answer


def main(tool: str, file: str) -> None:
    if tool == "hledger":
        command = ["hledger", "-f", file, "balance", "--flat"]
        answer(lambda: lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))
        return
    os.environ["BEANCOUNT_DISABLE_LOAD_CACHE"] = "1"
    from beancount import loader
    from beancount.core import realization

    def balances() -> None:
        entries, errors, _ = loader.load_file(file)
        if errors:
            raise RuntimeError(f"beancount finds: {errors[0]}")
        realization.compute_balance(realization.realize(entries))

    def work() -> Callable[[], object]:
        return balances

    answer(work)


if __name__ == "__main__":
    main(*sys.argv[1:])
