"""The grammars of problems and solutions, and what the rest of the package reads from Lark's tables of them."""
