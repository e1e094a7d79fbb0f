"""How exact Captum's integrated gradients are at a number of steps, over the photographs.

Prints the mean completeness error, and the mean correlation of the maps with those of many times as many steps, which
it writes to a file.
"""

import json
import statistics
import sys

import numpy as np
from benchmarks.peers.team import integrated
from benchmarks.photograph import NAMES, jpeg

TIMES = 40
"""How many times as many steps the maps have that others are compared with."""

if __name__ == "__main__":
    steps, path = int(sys.argv[1]), sys.argv[2]
    errors, correlations, exact = [], [], []
    for name in NAMES:
        found, error = integrated(jpeg(name), steps)
        exact.append(integrated(jpeg(name), TIMES * steps)[0])
        errors.append(error)
        correlations.append(float(np.corrcoef(found.ravel(), exact[-1].ravel())[0, 1]))
    np.save(path, np.stack(exact))
    print(json.dumps({"error": statistics.mean(errors), "correlation": statistics.mean(correlations)}))
