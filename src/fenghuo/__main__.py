"""`python -m fenghuo` is `fenghuo`."""

import os
import signal
import sys


def main() -> int:
    """The command line, which Ctrl-C and SIGTERM end in one line also while it is imported, and never at its end."""
    heard = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _stop_before_anything)
    from fenghuo.cli import main

    code = main()
    for number in heard:
        signal.signal(number, signal.SIG_IGN)  # the code is decided, and the interpreter takes a while to end
    return code


def _stop_before_anything(number: int, frame: object) -> None:
    os.write(2, b"fenghuo: stopped\n")
    os._exit(130)


if __name__ == "__main__":
    sys.exit(main())
