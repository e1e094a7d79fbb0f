"""`gradserve-server` for a block: `serve` runs on free ports until it is ready, and is then asked to stop."""

import signal
import subprocess
import sys

SERVE = ["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]


def main() -> int:
    """Runs the command with this process's arguments and returns its exit status."""
    command, *arguments = sys.argv[1:]
    run = [sys.executable, "-m", "gradserve_server", command, *arguments]
    if command != "serve":
        return subprocess.run(run).returncode
    if "--ui" in arguments:
        run += ["--ui", "127.0.0.1:0"]
    server = subprocess.Popen([*run, *SERVE], stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    for line in server.stderr:
        print(line, end="", file=sys.stderr)
        if "serving on port" in line:
            server.send_signal(signal.SIGTERM)
    return server.wait()
