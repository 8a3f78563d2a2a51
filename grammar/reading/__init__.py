"""Text to data, by the two Lark grammars."""
