"""The language of problems and solutions: read it, write it, judge it. Plain Python and lark."""

from grammar.graph import Graph, Quantity
from grammar.render import render_problem, render_trace
from grammar.solution import gold_trace
from grammar.trace import Trace

__all__ = ["Graph", "Quantity", "Trace", "gold_trace", "render_problem", "render_trace"]
