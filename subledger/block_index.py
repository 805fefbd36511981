"""Index of a block in a wallet's draw order: a cache, for customers with thousands of open blocks.

Blocks are immutable and lie in a tuple in draw order, so a purchase made a new tuple by sorting all of them, and was
found in it by looking at each: with 4,000 open blocks that took most of a second for a hundred purchases. Here the
place of each block in the draw order is remembered for the tuple that was made last; the next one is made of it by
bisection.

The cache is keyed by the identity of a tuple, and holds the tuple, so no other tuple can get its identity. A tuple that
is not in the cache is searched block by block: presence affects cost, never meaning. Owns: this cache. Does not own:
the draw order (draw_order), the wallet.
"""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from typing import Final

from subledger.blocks import Block
from subledger.draw_order import DrawOrder, draw_order

Blocks = tuple[Block, ...]

MANY: Final = 64
"""Up to so many blocks are sorted and looked through, which is as quick."""
MOST: Final = 100_000
"""So many blocks are known in all, in some 20 MB; tuples that were used longest ago are forgotten first.

The last one is known however many it has: it takes no more room than the blocks themselves, and else it would be
learnt anew with each purchase."""


class Places:
    """The places of the blocks of some tuples. Safe to share between threads."""

    def __init__(self, *, many: int = MANY, most: int = MOST) -> None:
        self._many, self._most = many, most
        self._known: OrderedDict[int, tuple[Blocks, dict[str, DrawOrder]]] = OrderedDict()
        self._blocks = 0
        self._lock = threading.Lock()

    def index(self, blocks: Blocks, block_id: str) -> int | None:
        """The index of the block of this id; None if there is none."""
        if len(blocks) > self._many:
            known = self._known.get(id(blocks))
            if known is not None and known[0] is blocks:
                key = known[1].get(block_id)
                if key is None:
                    return None
                index = bisect_left(blocks, key, key=draw_order)
                if index < len(blocks) and blocks[index].block_id == block_id:
                    return index
        for index, block in enumerate(blocks):
            if block.block_id == block_id:
                return index
        return None

    def with_block(self, blocks: Blocks, changed: Block) -> Blocks:
        """Blocks in draw order with one of them replaced, or one added."""
        index = self.index(blocks, changed.block_id)
        made = list(blocks)
        if index is not None and made[index].expires_at == changed.expires_at:
            made[index] = changed  # nothing else of the order ever changes
        else:
            if index is not None:
                del made[index]
            insort(made, changed, key=draw_order)
        after = tuple(made)
        if len(after) > self._many:
            self._learn(blocks, after, changed, moved=index is None or blocks[index].expires_at != changed.expires_at)
        return after

    def _learn(self, before: Blocks, after: Blocks, changed: Block, *, moved: bool) -> None:
        """Knows the new tuple instead of the one that it was made of. Learns one anew only if a block has moved."""
        with self._lock:
            known = self._known.pop(id(before), None)
            if known is not None:
                keys = known[1]
                self._blocks -= len(keys)
                if moved:
                    keys[changed.block_id] = draw_order(changed)
            elif moved:
                keys = {block.block_id: draw_order(block) for block in after}
            else:
                return
            self._known[id(after)] = (after, keys)
            self._blocks += len(keys)
            while self._blocks > self._most and len(self._known) > 1:
                _, (_, forgotten) = self._known.popitem(last=False)
                self._blocks -= len(forgotten)


places: Final = Places()
"""Those of this process."""
