"""`python -m interplay COMMAND` is `python main.py COMMAND`."""

import sys

from interplay.main import main

if __name__ == "__main__":
    sys.exit(main())
