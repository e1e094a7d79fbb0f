"""The collector of cycles does not look at modules, and still frees what comes after them."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
import gradserve_server.app
from gradserve_server.scheduling.collector import leave_out_imported

before = len(gc.get_objects())
count = leave_out_imported()

class Cycle:
    def __init__(self):
        self.own = self

alive = weakref.ref(Cycle())
gc.collect()
print(before, count, len(gc.get_objects()), alive() is None)
"""


def test_what_is_imported_is_left_out_and_cycles_made_later_are_freed() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    before, count, seen = map(int, said[:3])
    assert count >= before > 100_000
    assert seen < 1000
    assert said[3] == "True"
