"""The server: bytes -> rpc -> imaging -> programs -> scheduling -> autograd -> models, and back once."""

import os

# Left alone, MKL divides sums among threads by how memory happens to lie, so that the same request is rounded anew each
# time (seen where a CPU has AVX-512). It reads this at its first operation.
os.environ.setdefault("MKL_CBWR", "AUTO")
