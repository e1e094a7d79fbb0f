"""The server: bytes -> rpc -> imaging -> programs -> scheduling -> autograd -> models, and back once."""

import os

# Left alone, MKL divides sums among threads by how memory happens to lie, so that the same request is rounded anew each
# time (seen where a CPU has AVX-512). It reads this at its first operation.
os.environ.setdefault("MKL_CBWR", "AUTO")

# How many times OpenMP's threads look whether they are needed again before they sleep. Left alone they spin for longer
# than a processor is given for at a time: beside another process that computes, such as the inference service, each
# operation of a pass then waits for whoever has a core, and a pass takes twenty times as long. This is longer than the
# interpreter takes from one operation to the next. It is read when torch is imported.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
