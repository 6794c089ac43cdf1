"""The callables of our side."""

import subprocess
import time

import moments
import tally


def nothing():
    tally.mark()
    return 1


def note(sent):
    moments.note(sent)


def five():
    """A task of five milliseconds that leaves the processor to others."""
    time.sleep(0.005)
    tally.mark()


def true():
    subprocess.run(["true"], check=True, capture_output=True)
    tally.mark()
