"""This project's server, or several at ports from `PEER_PORT` on, until this process is told to end."""

import os
import signal
import subprocess
import sys


def main() -> None:
    """Starts them, and waits until one ends, which ends the others."""
    first = int(os.environ["PEER_PORT"])
    command = [sys.executable, "-m", "gradserve_server", "serve", "--metrics", "127.0.0.1:0", "--listen"]
    servers = [
        subprocess.Popen([*command, f"127.0.0.1:{first + number}"]) for number in range(int(os.environ["PEER_WORKERS"]))
    ]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())
    try:
        servers[0].wait()
    finally:
        for server in servers:
            server.terminate()
        for server in servers:
            server.wait()


if __name__ == "__main__":
    main()
