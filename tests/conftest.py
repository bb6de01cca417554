"""What holds for every test: one thread per worker where several workers share the cores.

Set before torch, OpenBLAS and the child processes start, which is when they read it.
"""

import os

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
