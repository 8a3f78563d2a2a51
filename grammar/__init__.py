"""The language of problems and solutions: read it, write it, judge it. Plain Python and lark."""

from grammar.checking.report import Report
from grammar.checking.verify import verify
from grammar.graders import GRADERS, grade
from grammar.problem.graph import Graph
from grammar.problem.quantity import Quantity
from grammar.reading.parse import parse_response, parse_trace
from grammar.reading.problem import parse_problem
from grammar.reading.sentences import ProblemSyntaxError
from grammar.reading.trace import Trace, TraceSyntaxError
from grammar.writing.render import render_problem, render_trace
from grammar.writing.solution import gold_trace, write_solution

__all__ = [
    "GRADERS", "Graph", "ProblemSyntaxError", "Quantity", "Report", "Trace", "TraceSyntaxError", "gold_trace", "grade",
    "parse_problem", "parse_response", "parse_trace", "render_problem", "render_trace", "verify", "write_solution",
]  # fmt: skip
