"""The language of problems and solutions: read it, write it, judge it. Plain Python and lark."""

from grammar.graph import Graph, Quantity
from grammar.parse import parse_response, parse_trace
from grammar.render import render_problem, render_trace
from grammar.solution import gold_trace
from grammar.trace import Trace, TraceSyntaxError

__all__ = [
    "Graph",
    "Quantity",
    "Trace",
    "TraceSyntaxError",
    "gold_trace",
    "parse_response",
    "parse_trace",
    "render_problem",
    "render_trace",
]
