"""Sends a hundred thousand generated requests to a real server and fails if one ends as docs/errors.md does not say.

Requests are made of the descriptors of the contract, by changing fields or bytes of real ones, and of bytes without
meaning. What ends with UNKNOWN, INTERNAL or another code that is not documented, and what is not answered within its
deadline, is written to a folder, with the RPC as the suffix of its name; `--replay` sends such files again. Then come
connections on which no gRPC is spoken. Afterwards the server must hold nothing, and answer normal requests bit by bit
as before.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

ROUND = 2500
"""Requests drawn at a time: hypothesis remembers all it drew in a run."""


def main() -> int:
    """Runs the command and returns its exit status."""
    import grpc
    from tests.faults.resources import held, let_go
    from tests.property.asking import Campaign, known_by, send_many, usual_answers
    from tests.property.messages import Sent
    from tests.property.pictures import files
    from tests.property.wire import STRANGE, conversation, said_to, say_many
    from tests.small import small_server

    from gradserve import Client

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="number of requests (default %(default)d)")
    parser.add_argument("--connections", type=int, default=5000, help="that speak no gRPC (default %(default)d)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="end earlier (default: do not)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the requests (default %(default)d)")
    parser.add_argument(
        "--faults", type=Path, default=Path("fuzz"), help="folder for what failed (default %(default)s)"
    )
    parser.add_argument("--replay", type=Path, nargs="+", default=[], help="send these files instead")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, small_server(Path(folder)) as server:
        address = f"127.0.0.1:{server.port}"
        with Client(address) as client, grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
            before, known = usual_answers(client), known_by(client)
            campaign, started = Campaign(channel), time.monotonic()
            for file in parsed.replay:
                campaign.send(Sent(file.suffix[1:], file.read_bytes(), "replayed"))
            left, number = 0 if parsed.replay else parsed.requests, parsed.seed
            while left > 0 and time.monotonic() < started + parsed.minutes * 60:
                send_many(campaign, known, min(left, ROUND), number)
                left, number = left - ROUND, number + 1
                print(f"{sum(campaign.codes.values())} in {time.monotonic() - started:.0f} s", flush=True)
            campaign.finish()
            for strange in STRANGE:
                said_to(server.port, strange)
            say_many(server.port, conversation(server.port, files()["png"]), parsed.connections, parsed.seed)
            after = usual_answers(client)
            idle = held(server)
            let_go(server, type(idle)(idle.tasks, idle.threads, idle.files, programs=0, calls=0))
    print(*campaign.histogram(), sep="\n")
    seconds, slowest = campaign.slowest
    print(f"slowest: {slowest.rpc if slowest else 'none'}, {seconds:.2f} s")
    for number, (request, code, said) in enumerate(campaign.faults):
        parsed.faults.mkdir(exist_ok=True, parents=True)
        file = parsed.faults / f"{code.lower()}-{number}.{request.rpc}"
        file.write_bytes(request.data)
        if (request, code, said) in campaign.wrong:
            print(f"{file}: {said}")
    same = all((one == other).all() for one, other in zip(before, after, strict=True))
    print(f"{sum(campaign.codes.values())} requests in {time.monotonic() - started:.0f} s")
    print(f"connections that spoke no gRPC, and were closed: {len(STRANGE) + parsed.connections}")
    print(f"ended with a code that is not documented: {len(campaign.wrong)}")
    print(f"normal requests are answered bit by bit as before: {same}")
    return 0 if same and not campaign.wrong else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
