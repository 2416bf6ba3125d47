"""What an SQL statement does, and in which tables; not how it is written."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

TOKEN = re.compile(r"""'(?:[^']|'')*'|%\(\w+\)s|%s|"([^"]+)"|(\w+)|([()])""")
VERBS = {"SELECT", "INSERT", "UPDATE", "DELETE"}


@dataclass
class Part:
    """One verb with all that belongs to it. Only the parts of a WITH are several."""

    verb: str
    target: str = ""
    """The table that it changes."""

    tables: set[str] = field(default_factory=set)
    """Every table that it names, also in a subquery."""

    locks: bool = False
    """Whether it locks the rows that it reads (FOR UPDATE, FOR NO KEY UPDATE)."""

    upserts: bool = False
    """Whether it looks for rows in conflict with those that it inserts (ON CONFLICT)."""

    def is_a(self, wanted: "Part") -> bool:
        """Return whether it does what the other does, and perhaps more."""
        return self.verb == wanted.verb and wanted.target in ("", self.target) and wanted.tables.issubset(self.tables)

    def read(self, name: str, before: Sequence[str]) -> None:
        """Learn from the next name or word, which comes after these two words."""
        word = name.upper()
        if before[1] in ("FROM", "JOIN", "INTO") or (before[1] == "UPDATE" and before[0] not in ("FOR", "KEY", "DO")):
            self.tables.add(name)
            if self.verb != "SELECT":
                self.target = self.target or name
        self.locks |= word == "UPDATE" and before[1] in ("FOR", "KEY")
        self.upserts |= word == "CONFLICT" and before[1] == "ON"


def parts(sql: str) -> list[Part]:
    """Return the parts of the statements in a message, in the order in which they stand. No literal has a semicolon."""
    return [part for statement in sql.split(";") for part in _parts_of(statement)]


def _parts_of(sql: str) -> list[Part]:
    tokens = [token for token in TOKEN.findall(sql) if token[1].upper() != "ONLY"]
    first = tokens[0][1].upper()
    found = [] if first == "WITH" else [Part(first)]
    levels = [found[0] if found else None]  # the part at each depth of brackets; None between those of a WITH
    queries: set[str] = set()  # what a WITH names
    before = ("", "")
    for quoted, word, bracket in tokens:
        part, name = levels[-1], quoted or word
        if bracket == "(":
            levels.append(part)
        elif bracket:
            levels.pop()
        elif part:
            part.read(name, before)
        elif word.upper() in VERBS:
            found.append(Part(word.upper()))
            levels[-1] = found[-1]
        else:
            queries.add(name)
        before = (before[1], word.upper())
    for part in found:
        part.tables -= queries
    return found
