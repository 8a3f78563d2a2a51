"""The grammars as Lark compiles them: its parsers, and its own tables of terminals and rules.

Everything that cuts text quickly (words, sentences, endings, names) takes its patterns from here.
"""

import re
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

from lark import Lark, Tree
from lark.grammar import Terminal
from lark.lexer import PatternStr

_FOLDER = Path(__file__).parent


class Language:
    """One grammar.

    Args:
        file:      its file in this folder; the rule of a whole text has the file's name.
        extension: further lines of grammar, usually `%extend RULE: ...`.
    """

    def __init__(self, file: str, extension: str = "") -> None:
        self._path = _FOLDER / file
        self._text = f"{self._path.read_text(encoding='utf-8')}\n{extension}\n"
        self._parsers: dict[str, Lark] = {}
        self.lark = self._parser(self._path.stem)
        self.patterns = {terminal.name: terminal.pattern for terminal in self.lark.terminals}

    def _parser(self, start: str) -> Lark:
        if start not in self._parsers:
            options = {"parser": "lalr", "maybe_placeholders": True, "source_path": str(self._path)}
            self._parsers[start] = Lark(self._text, start=start, **options)
        return self._parsers[start]

    def parse(self, text: str, start: str) -> Tree[Any]:
        """Lark's tree of a text, which is a whole one or what a rule says.

        Raises:
            lark.exceptions.UnexpectedInput: if the grammar does not accept it.
        """
        return self._parser(start).parse(text)

    def regexp(self, terminal: str) -> str:
        """The regular expression of a terminal, as one group."""
        return f"(?:{self.patterns[terminal].to_regexp()})"

    def text(self, terminal: str) -> str:
        """The text of a terminal that is a fixed string."""
        return self.patterns[terminal].value

    def spoken(self, terminal: str) -> str:
        """A keyword as messages name it, in quotes."""
        pattern = self.patterns.get(terminal)
        fixed = pattern.value.strip() if isinstance(pattern, PatternStr) else ""
        return repr(fixed or terminal.strip("_").lower().replace("_", " "))

    def rule(self, name: str) -> list[list[str]]:
        """The expansions of a rule, each as its symbols."""
        return [[symbol.name for symbol in rule.expansion] for rule in self.lark.rules if rule.origin.name == name]

    def any_of(self, rule: str) -> str:
        """A regular expression for a rule that is a choice of terminals, as one group."""
        return f"(?:{'|'.join(self.regexp(expansion[0]) for expansion in self.rule(rule))})"

    @cached_property
    def blank(self) -> str:
        """The regular expression of what is ignored between words, as one group; it matches at least one character."""
        return f"(?:{'|'.join(map(self.regexp, self.lark.ignore_tokens))})"

    def terminals(self, start: str) -> list[str]:
        """The terminals that texts of a rule are made of, those with the narrowest bounds on their length first."""
        found: dict[str, None] = {}
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found[name] = None
                waiting += [symbol for expansion in self.rule(name) for symbol in expansion]
        names = [name for name in found if name in self.patterns]
        return sorted(names, key=lambda name: (self.patterns[name].max_width, -self.patterns[name].min_width))

    def cutter(self, start: str) -> re.Pattern[str]:
        """Cuts the texts of a rule: each match is a run of keywords and blanks, then another terminal or the text's end.

        Keywords are the terminals that Lark leaves out of its trees. The run is group 1, the terminal a group of its name. A
        keyword that only ever stands before one and the same terminal ("number of " before a name) is matched with it.
        """
        symbols = [symbol for rule in self.lark.rules for symbol in rule.expansion]
        dropped = {symbol.name for symbol in symbols if isinstance(symbol, Terminal) and symbol.filter_out}
        names = self.terminals(start)
        after = {name: self._after(name) for name in dropped.intersection(names)}
        leads = {next(iter(found)): name for name, found in after.items() if len(found) == 1 and found <= set(names) - dropped}
        keywords = "|".join(self.regexp(name) for name in reversed(names) if name in after and name not in leads.values())
        lead = {name: f"{self.regexp(leads[name])}{self.blank}?" if name in leads else "" for name in names}
        others = "|".join(f"{lead[name]}(?P<{name}>{self.regexp(name)})" for name in names if name not in dropped)
        return re.compile(f"({self.blank}?+(?:(?:{keywords}){self.blank}?+)*+)(?:{others}|$)")

    def _after(self, symbol: str) -> set[str]:
        """What may stand right after a symbol; "" for the end of a rule."""
        expansions = [[found.name for found in rule.expansion] + [""] for rule in self.lark.rules]
        return {b for expansion in expansions for a, b in pairwise(expansion) if a == symbol}


TRACES = Language("trace.lark")
