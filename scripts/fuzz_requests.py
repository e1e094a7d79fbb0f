"""Sends a hundred thousand generated requests to a real server and fails if one ends as docs/errors.md does not say.

Requests are made of the descriptors of the contract, by mutating real ones, and of bytes without meaning. A request
that ends with UNKNOWN, INTERNAL or not within its deadline is written to the folder that is given, with the RPC as the
suffix of its name; `--replay` sends such files again. Afterwards the server must answer normal requests as before.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path


def main() -> int:
    """Runs the command and returns its exit status."""
    import grpc
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from tests.property.asking import DOCUMENTED, Campaign, known_by, usual_answers
    from tests.property.messages import Sent, sent
    from tests.small import small_server

    from gradserve import Client

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000, help="number of requests (default %(default)d)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the requests (default %(default)d)")
    parser.add_argument("--faults", type=Path, default=Path("fuzz"), help="where to write what failed")
    parser.add_argument("--replay", type=Path, nargs="+", default=[], help="send these files instead")
    parsed = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, small_server(Path(folder)) as server:
        address = f"127.0.0.1:{server.port}"
        with Client(address) as client, grpc.insecure_channel(address, [("grpc.enable_retries", 0)]) as channel:
            before, campaign = usual_answers(client), Campaign(channel)
            started = time.monotonic()
            if parsed.replay:
                for file in parsed.replay:
                    campaign.send(Sent(file.suffix[1:], file.read_bytes(), "replayed"))
            else:
                known = known_by(client)

                @seed(parsed.seed)
                @settings(
                    max_examples=parsed.requests,
                    phases=[Phase.generate],
                    database=None,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                )
                @given(sent(known))
                def run(request: Sent) -> None:
                    campaign.send(request)
                    if not (count := sum(campaign.codes.values())) % 5000 and count:
                        print(f"{count} in {time.monotonic() - started:.0f} s", flush=True)

                run()
            campaign.finish()
            after = usual_answers(client)
    print(*campaign.histogram(), sep="\n")
    seconds, slowest = campaign.slowest
    print(f"slowest: {slowest.rpc if slowest else 'none'}, {seconds:.2f} s")
    for number, (request, code, said) in enumerate(campaign.faults):
        parsed.faults.mkdir(exist_ok=True)
        file = parsed.faults / f"{code.lower()}-{number}.{request.rpc}"
        file.write_bytes(request.data)
        print(f"{file}: {said}")
    same = all((one == other).all() for one, other in zip(before, after, strict=True))
    documented = all(code in DOCUMENTED for _, code in campaign.codes)
    print(f"{sum(campaign.codes.values())} requests in {time.monotonic() - started:.0f} s")
    print(f"every code is documented: {documented}; normal requests are answered bit by bit as before: {same}")
    return 0 if same and documented and not campaign.faults else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    sys.exit(main())
