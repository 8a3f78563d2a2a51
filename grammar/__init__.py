"""The language of problems and solutions: read it, write it, judge it. Plain Python and lark."""

from grammar.graders import GRADERS, grade
from grammar.graph import Graph
from grammar.parse import parse_problem, parse_response, parse_trace
from grammar.quantity import Quantity
from grammar.render import render_problem, render_trace
from grammar.report import Report
from grammar.sentences import ProblemSyntaxError
from grammar.solution import gold_trace, write_solution
from grammar.trace import Trace, TraceSyntaxError
from grammar.verify import verify

__all__ = [
    "GRADERS",
    "Graph",
    "ProblemSyntaxError",
    "Quantity",
    "Report",
    "Trace",
    "TraceSyntaxError",
    "gold_trace",
    "grade",
    "parse_problem",
    "parse_response",
    "parse_trace",
    "render_problem",
    "render_trace",
    "verify",
    "write_solution",
]
