"""`python main.py report DIR`: the files of runs as figures, tables and one page."""
