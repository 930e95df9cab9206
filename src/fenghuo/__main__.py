"""`python -m fenghuo` is `fenghuo`."""

import sys

from fenghuo.cli import main

if __name__ == "__main__":
    sys.exit(main())
