"""`python main.py report DIR`: what runs left in files, as figures, tables and one page to read them by."""
