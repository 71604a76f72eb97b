"""Models in, results out: no processes, no sockets, no clocks of their own."""

import os

# Since 1.29 ONNX Runtime's wheels report to Microsoft by default, on Linux too: a thread, a database and an identifier under ~/.cache, and
# uploads. It looks at this when it is first used, which is after this line for all that is imported from here.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
