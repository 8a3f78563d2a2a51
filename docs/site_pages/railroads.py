"""A .lark file as railroad diagrams, a drawing for each rule: lark reads the file by its own grammar of grammars."""

import re
from io import StringIO
from pathlib import Path

import railroad
from lark import Lark, Token, Tree

STYLE = """svg.railroad-diagram path{stroke:currentColor;stroke-width:1.5;fill:none}
svg.railroad-diagram text{font:14px monospace;text-anchor:middle;fill:currentColor}
svg.railroad-diagram rect{stroke:currentColor;stroke-width:1;fill:none}svg.railroad-diagram .terminal rect{fill:#0072b222}"""
LONGEST = 46  # characters of a pattern that are drawn


def diagrams(path: Path) -> str:
    """The rules of a file, in its order; a name with `_` before it is written as what it stands for."""
    tree = Lark.open_from_package("lark", "lark.lark", ("grammars",), parser="lalr", maybe_placeholders=False).parse(
        path.read_text(encoding="utf-8") + "\n"
    )
    tokens = {str(token.children[0]).split(".")[0]: token.children[-1] for token in tree.find_data("token")}
    drawn = [f"<style>{STYLE}</style>"]
    for rule in sorted(tree.find_data("rule"), key=lambda found: found.children[0].line):
        name = str(rule.children[0]).lstrip("?!")
        text = StringIO()
        railroad.Diagram(_item(rule.children[-1], tokens), type="complex", css=None).writeSvg(text.write)
        drawn.append(f'<p><b id="{path.stem}-{name}">{name}</b></p><div style="overflow-x:auto">{text.getvalue()}</div>')
    return "\n".join(drawn)


def _item(node: Tree | Token, tokens: dict[str, Tree]) -> railroad.DiagramItem:
    """A part of a rule."""
    if isinstance(node, Token):
        return railroad.Terminal(_shortened(node))
    parts = [child for child in node.children if isinstance(child, Tree) or child.type not in ("_VBAR", "OP", "RULE", "NUMBER")]
    if node.data == "expansions":
        return railroad.Choice(0, *(_item(part, tokens) for part in parts))
    if node.data in ("expansion", "alias"):
        return railroad.Sequence(*(_item(part, tokens) for part in parts)) if len(parts) > 1 else _item(parts[0], tokens)
    if node.data == "maybe":
        return railroad.Optional(_item(parts[0], tokens))
    if node.data == "expr":
        inner, how = _item(parts[0], tokens), str(node.children[1])
        return {"?": railroad.Optional, "*": railroad.ZeroOrMore, "+": railroad.OneOrMore}[how](inner)
    if node.data == "name":
        name = str(node.children[0])
        held = tokens.get(name) if name.startswith("_") else None
        return railroad.NonTerminal(name) if held is None else _item(held, tokens)
    return _item(node.children[0], tokens)


def _shortened(token: Token) -> str:
    text = str(token)
    text = text[1:-1] if text[0] == '"' else re.sub(r"^/([\w ]+)\(\?[=!][^()]*\)/$", r"\1", text)  # a word, whatever must follow
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
