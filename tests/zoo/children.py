"""A model that starts a child process and leaves it running."""

import subprocess
import sys
from typing import Any

CHILDREN: list[subprocess.Popen[bytes]] = []


def predict(**kwargs: Any) -> Any:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    CHILDREN.append(child)
    return child.pid
