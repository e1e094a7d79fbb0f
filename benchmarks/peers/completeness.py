"""Prints the mean completeness error of Captum's integrated gradients over the photographs, at a number of steps."""

import json
import statistics
import sys

from benchmarks.peers.team import completeness
from benchmarks.photograph import NAMES, jpeg

if __name__ == "__main__":
    steps = int(sys.argv[1])
    print(json.dumps({"error": statistics.mean(completeness(jpeg(name), steps) for name in NAMES)}))
