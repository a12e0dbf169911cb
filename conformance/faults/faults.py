"""What koine survives: kills, bad disks, bad networks, too much of everything.

usage: faults.py --koine PROGRAM [--kills N] [--minutes N] [--events N] [CASE]...

One line for each case: `ok`, `WRONG` or `SKIP`, what it was, and what was seen. Ends with 1 when something was wrong, with 77 when
something could not be tried on this machine, else with 0.
"""

import argparse
import asyncio
import logging
import sys
import time
import traceback

import crash
import disk
import network
import overload
import restart
from koines import Skipped
from people import Wrong

WITH_SKIPS = 77
KILLS = 5
SHORT_MINUTES = 0.2
FEW_EVENTS = 5_000
CASES = (*crash.CASES, *disk.CASES, *network.CASES, *overload.CASES, *restart.CASES)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--koine", required=True)
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--minutes", type=float, default=SHORT_MINUTES, help="how long networks are bad and floods last")
    parser.add_argument("--events", type=int, default=FEW_EVENTS, help="how many there are when it is killed with many")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    by_name = {case.__name__: case for case in CASES}
    if unknown := set(options.cases) - set(by_name):
        sys.exit(f"no case is called {unknown.pop()}; there are {', '.join(by_name)}")
    # They tell of each connection that a kill takes from them.
    for talkative in ("slixmpp", "asyncio"):
        logging.getLogger(talkative).setLevel(logging.CRITICAL)
    wrong = skipped = 0
    for case in [by_name[name] for name in options.cases] or CASES:
        began = time.monotonic()
        try:
            how, told = "ok    ", asyncio.run(case(options))
        except Skipped as reason:
            how, told = "SKIP  ", reason
            skipped += 1
        except Wrong as reason:
            how, told = "WRONG ", reason
            wrong += 1
        except Exception as error:
            # Of the other cases one wants to know all the same.
            traceback.print_exc()
            how, told = "WRONG ", f"the case itself ended: {error!r}"
            wrong += 1
        print(f"{how} {case.__doc__} ({time.monotonic() - began:.0f} s): {told}", flush=True)
    return 1 if wrong else WITH_SKIPS if skipped else 0


if __name__ == "__main__":
    sys.exit(main())
