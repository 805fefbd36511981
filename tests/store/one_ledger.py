"""Conditions on statements for ledgers on several servers: each statement names its one ledger.

A statement that fulfils these conditions runs on the server of its ledger:

- In every query and subquery, each of our tables is restricted to a ledger that is a constant or a parameter, directly
  or by a join on ``ledger`` in the same query. A restriction by the ledger of an outer query is not enough: Citus then
  does not know the server, and runs only some of the statements that it would send in parts.
- It inserts only rows of that ledger.
- It reads other tables only in a WITH … AS MATERIALIZED, whose rows can be sent.

A statement about many ledgers must also join on ``ledger``, and may not need results that Citus cannot combine from
several servers.

Statements are read with PostgreSQL's own parser, because a regular expression may find a restriction that is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType, CTEMaterialize, SetOperation

PARAMETER: Final = re.compile(r"%(?:\((\w+)\))?[sbt]")
BOUND: Final = "a constant"
# Order is a counter in the ledger's row, and rights are row locks. Neither is known on other servers.
NEVER: Final = re.compile(r"pg_(try_)?advisory|nextval|currval|lastval|setval|txid_|pg_current_xact")
# The time of a change on another server is also unknown.
CLOCKS: Final = {"now", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday", "random"}
# Functions that an ON CONFLICT may call. Citus requires them to be immutable; a clock or a random number is not. Views
# that restrict the ledger of one table by that of another. Citus can send them, but not within every statement.
FOR_PEOPLE: Final = {"recorded_events"}
IN_CONFLICT: Final = {"coalesce", "greatest", "least"}
HARMLESS: Final = (ast.VariableSetStmt, ast.TransactionStmt, ast.VariableShowStmt)

Scope = dict[str, str]
"""Alias → the term of its ledger column."""


def faults(statement: str, sharded: frozenset[str], *, crosses: bool = False) -> list[str]:
    """Returns the reasons why a statement cannot run on its ledger's server; empty if it can."""
    numbers: dict[str, int] = {}

    def numbered(found: re.Match[str]) -> str:
        return f"${numbers.setdefault(found[1] or str(len(numbers)), len(numbers) + 1)}"

    text = PARAMETER.sub(numbered, statement).replace("%%", "%")
    reading = _Reading(sharded, crosses=crosses)
    for raw in parse_sql(text):
        reading.statement(raw.stmt)
    return reading.faults


class _Reading:
    def __init__(self, sharded: frozenset[str], *, crosses: bool) -> None:
        self.sharded = sharded
        self.crosses = crosses
        self.faults: list[str] = []
        self._leaders: dict[str, str] = {}
        self._terms = 0
        self._ours: set[str] = set()
        self._others: set[str] = set()

    def statement(self, node: ast.Node) -> None:
        for call in _all(node, ast.FuncCall):
            name = call.funcname[-1].sval
            if NEVER.match(name):
                self.faults.append(f"{name}() is of one server")
        match node:
            case ast.SelectStmt() | ast.InsertStmt() | ast.UpdateStmt() | ast.DeleteStmt():
                self._query(node, [], {})
            case ast.CopyStmt():
                self._copy(node)
            case _ if not isinstance(node, HARMLESS):
                named = {r.relname for r in _all(node, ast.RangeVar)} - {
                    like.relation.relname for like in _all(node, ast.TableLikeClause)
                }
                if named & self.sharded:
                    self.faults.append(f"{type(node).__name__} on {', '.join(sorted(named & self.sharded))}")
        self._apart()
        if self.crosses:
            self._cross(node)

    def _apart(self) -> None:
        """Reports reads of other tables, because our tables may be on another server."""
        if self._ours and self._others:
            self.faults.append(f"reads {', '.join(sorted(self._others))} beside {', '.join(sorted(self._ours))}")

    def _cross(self, node: ast.Node) -> None:
        """Reports results that Citus cannot combine from several servers."""
        for kind in (ast.GroupingSet, ast.LockingClause):
            if any(True for _ in _all(node, kind)):
                self.faults.append(f"{kind.__name__} over ledgers")
        if any(clause.recursive for clause in _all(node, ast.WithClause)):
            self.faults.append("a recursive query over ledgers")

    def _copy(self, node: ast.CopyStmt) -> None:
        if node.query is not None:
            self._query(node.query, [], {})
        elif node.relation.relname in self.sharded and "ledger" not in [name.sval for name in node.attlist or ()]:
            self.faults.append(f"COPY {node.relation.relname} without its ledger")

    # --- a query and the queries in it ------------------------------------------------------------------------

    def _query(self, node: ast.Node, outer: list[Scope], named: dict[str, bool]) -> bool:
        """Reads one query. Returns True if its column ``ledger``, if any, is the ledger of the statement."""
        named = self._named(node, outer, named)
        if isinstance(node, ast.SelectStmt) and node.op is not SetOperation.SETOP_NONE:
            return all([self._query(node.larg, outer, named), self._query(node.rarg, outer, named)])
        scope: Scope = {}
        places, conditions, inner = self._from(node, named, scope)
        conditions += _conjuncts(getattr(node, "whereClause", None))
        scopes = [scope, *outer]
        for condition in conditions:
            # PostgreSQL infers a restriction only within one query. Outside of it the value is not known yet.
            self._join(condition, scopes if self.crosses else [scope])
        for select, alias, lateral in inner:
            if self._query(select, scopes if lateral else outer, named):
                self._same(scope[alias], BOUND)
        self._check(places)
        for part in node:
            if part not in ("fromClause", "usingClause", "withClause", "larg", "rarg", "selectStmt"):
                self._expressions(getattr(node, part), scopes, named)
        for condition in conditions:
            self._expressions(condition, scopes, named)
        if isinstance(node, ast.InsertStmt):
            self._insert(node, outer, named)
        if isinstance(node, ast.UpdateStmt | ast.DeleteStmt):
            for call in _all(node.whereClause, ast.FuncCall):
                if call.funcname[-1].sval in CLOCKS:
                    self.faults.append(f"a change that depends on {call.funcname[-1].sval}()")
        if not isinstance(node, ast.SelectStmt):
            self._clocks(node)
        if isinstance(node, ast.UpdateStmt) and "ledger" in [target.name for target in node.targetList]:
            self.faults.append(f"UPDATE {node.relation.relname} changes the ledger")
        return self._gives_bound(node, scopes)

    def _clocks(self, node: ast.Node) -> None:
        """Reports clocks that depend on a row, because Citus reads the clock before it sends a change."""
        for choice in _all(node, (ast.CaseExpr, ast.CoalesceExpr)):
            for call in _all(choice, ast.FuncCall):
                if call.funcname[-1].sval in CLOCKS:
                    self.faults.append(f"a change calls {call.funcname[-1].sval}() in CASE or COALESCE")
        for term in _all(node, ast.A_Expr):
            sides = (term.lexpr, term.rexpr)
            if term.name[-1].sval in ("+", "-") and any(_is_interval(side) for side in sides):
                self.faults += ["a change adds an interval to a column"] * any(True for _ in _all(sides, ast.ColumnRef))

    def _named(self, node: ast.Node, outer: list[Scope], named: dict[str, bool]) -> dict[str, bool]:
        """Returns the WITH queries: name → True if its ledger is that of the statement."""
        clause = getattr(node, "withClause", None)
        for cte in clause.ctes if clause else ():
            seen = {**named, cte.ctename: False} if clause.recursive else named
            around = self._ours, self._others
            if cte.ctematerialized is CTEMaterialize.CTEMaterializeAlways:
                self._ours, self._others = set(), set()
            named = {**named, cte.ctename: self._query(cte.ctequery, outer, seen)}
            if cte.ctematerialized is CTEMaterialize.CTEMaterializeAlways:
                self._apart()
                self._ours, self._others = around
        return named

    def _from(
        self, node: ast.Node, named: dict[str, bool], scope: Scope
    ) -> tuple[list[tuple[str, str]], list[ast.Node], list[tuple[ast.Node, str, bool]]]:
        """Returns our tables with their terms, the conditions of the joins, and the queries in FROM with alias and
        LATERAL.
        """
        places: list[tuple[str, str]] = []
        conditions: list[ast.Node] = []
        inner: list[tuple[ast.Node, str, bool]] = []
        items = [*(getattr(node, "fromClause", None) or ()), *(getattr(node, "usingClause", None) or ())]
        if isinstance(node, ast.UpdateStmt | ast.DeleteStmt):
            items.insert(0, node.relation)
        while items:
            item = items.pop(0)
            alias = item.alias.aliasname if getattr(item, "alias", None) else getattr(item, "relname", "")
            self._terms += 1
            term = f"{alias} {self._terms}"
            match item:
                case ast.JoinExpr():
                    items += [item.larg, item.rarg]
                    conditions += _conjuncts(item.quals)
                case ast.RangeVar() if item.relname in named and item.schemaname is None:
                    scope[alias] = term
                    if named[item.relname]:
                        self._same(term, BOUND)
                case ast.RangeVar() if item.relname in self.sharded:
                    scope[alias] = term
                    places.append((item.relname, term))
                    self._ours.add(item.relname)
                case ast.RangeVar():
                    if item.relname in FOR_PEOPLE:
                        self.faults.append(f"{item.relname} is a view for people")
                    scope[alias] = term
                    self._others.add(item.relname)
                case ast.RangeSubselect():
                    scope[alias] = term
                    inner.append((item.subquery, alias, bool(item.lateral)))
        return places, conditions, inner

    def _check(self, places: Sequence[tuple[str, str]]) -> None:
        bound = self._leader(BOUND)
        if self.crosses and places:
            bound = self._leader(places[0][1])
        for table, term in places:
            if self._leader(term) != bound:
                self.faults.append(f"{table} is not restricted to one ledger")

    def _expressions(self, part: Any, scopes: list[Scope], named: dict[str, bool]) -> None:
        for link in _all(part, ast.SubLink, stop=(ast.SelectStmt,)):
            self._query(link.subselect, scopes, named)

    def _insert(self, node: ast.InsertStmt, outer: list[Scope], named: dict[str, bool]) -> None:
        table = node.relation.relname
        select = node.selectStmt
        names = [column.name for column in node.cols or ()]
        at = names.index("ledger") if "ledger" in names else None
        bound = self._query(select, outer, named)
        rows = select.valuesLists or ([select.targetList] if select.targetList else [])
        for row in rows:
            value = None if at is None or at >= len(row) else getattr(row[at], "val", row[at])
            ours = value is not None and (_is_constant(value) or (_is_ledger(value) and bound))
            if table in self.sharded and not ours:
                self.faults.append(f"INSERT INTO {table} of rows of no one ledger")
        if node.onConflictClause is not None:
            for call in _all(node.onConflictClause.targetList, ast.FuncCall):
                if call.funcname[-1].sval not in IN_CONFLICT:
                    self.faults.append(f"ON CONFLICT calls {call.funcname[-1].sval}()")

    # --- terms that are the same ledger ---------------------------------------------------------------------------

    def _join(self, condition: ast.Node, scopes: list[Scope]) -> None:
        if not isinstance(condition, ast.A_Expr) or condition.kind is not A_Expr_Kind.AEXPR_OP:
            return
        if condition.name[-1].sval == "=" and condition.lexpr is not None:
            left, right = self._term(condition.lexpr, scopes), self._term(condition.rexpr, scopes)
            if left is not None and right is not None:
                self._same(left, right)

    def _term(self, node: ast.Node, scopes: list[Scope]) -> str | None:
        if _is_constant(node):
            return BOUND
        node = _without_cast(node)
        if not _is_ledger(node):
            return None
        if len(node.fields) > 1:
            alias = node.fields[-2].sval
            return next((scope[alias] for scope in scopes if alias in scope), None)
        # A bare `ledger` belongs to the innermost query that reads one relation.
        return next((next(iter(scope.values())) for scope in scopes if len(scope) == 1), None)

    def _gives_bound(self, node: ast.Node, scopes: list[Scope]) -> bool:
        for target in getattr(node, "targetList", None) or ():
            value = getattr(target, "val", None)
            if value is not None and (target.name == "ledger" or _is_ledger(value)):
                term = self._term(value, scopes)
                return term is not None and self._leader(term) == self._leader(BOUND)
        return False

    def _leader(self, term: str) -> str:
        while (above := self._leaders.get(term, term)) != term:
            term = above
        return term

    def _same(self, left: str, right: str) -> None:
        left, right = self._leader(left), self._leader(right)
        if left != right:
            self._leaders[left] = right


def _without_cast(node: ast.Node) -> ast.Node:
    while isinstance(node, ast.TypeCast):
        node = node.arg
    return node


def _is_constant(node: ast.Node) -> bool:
    return isinstance(_without_cast(node), ast.ParamRef | ast.A_Const)


def _is_interval(node: ast.Node | None) -> bool:
    match node:
        case ast.TypeCast():
            return bool(node.typeName.names[-1].sval == "interval")
        case ast.FuncCall():
            return bool(node.funcname[-1].sval == "make_interval")
    return False


def _is_ledger(node: ast.Node) -> bool:
    node = _without_cast(node)
    return isinstance(node, ast.ColumnRef) and getattr(node.fields[-1], "sval", None) == "ledger"


def _conjuncts(node: ast.Node | None) -> list[ast.Node]:
    if node is None:
        return []
    if isinstance(node, ast.BoolExpr) and node.boolop is BoolExprType.AND_EXPR:
        return [part for each in node.args for part in _conjuncts(each)]
    return [node]


def _all(
    node: Any, kind: type[ast.Node] | tuple[type[ast.Node], ...], *, stop: tuple[type[ast.Node], ...] = ()
) -> Iterator[Any]:
    """Yields every node of a kind, including the node itself, but not nodes below a kind to stop at."""
    if isinstance(node, tuple | list):
        for each in node:
            yield from _all(each, kind, stop=stop)
    elif isinstance(node, ast.Node):
        if isinstance(node, kind):
            yield node
        for name in node:
            below = getattr(node, name)
            if not isinstance(below, stop):
                yield from _all(below, kind, stop=stop)
