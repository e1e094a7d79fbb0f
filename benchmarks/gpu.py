"""What only a GPU can show, in one table and one JSON: the core's ratios, the curve of batches, jobs at once, company.

Needs no network: the embedded model's weights are in a package. Where there is no GPU it says so, writes the rows as
unmeasured, and is content.
"""

import argparse
from contextlib import closing

from gradserve_server.scheduling.allocator import keep_freed_memory

ALLOCATOR = keep_freed_memory()

import torch  # noqa: E402
from benchmarks import company, core, maximize_jobs  # noqa: E402
from benchmarks.results import Row, save, show  # noqa: E402

from gradserve_server.models.loading import embedded_spec, load  # noqa: E402
from gradserve_server.models.model import Model  # noqa: E402
from gradserve_server.scheduling.calibration import calibrate  # noqa: E402
from gradserve_server.scheduling.lanes import Lanes  # noqa: E402

UNMEASURED = (
    Row("Grad-CAM of 8 image(s) / one bare forward of them", None, "<= 1.15"),
    Row("8 Maximize jobs one after another / at once, cuda:0", None, ">= 4"),
    Row("Explain p95 in company / alone", None, "<= 2"),
)


def main() -> None:
    """Prints the table; writes benchmarks/out/gpu.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda:0", help="cpu tries the program out where there is no GPU")
    parser.add_argument("--steps", type=int, default=128, help="steps of each Maximize job")
    parser.add_argument("--rate", type=float, default=5.0, help="Explain requests a second beside company")
    parser.add_argument("--requests", type=int, default=60, help="Explain requests of each turn beside company")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=core.REPEATS, help="pairs of each ratio of the core")
    parser.add_argument("--only", nargs="*", choices=company.COMPANIES, default=tuple(company.COMPANIES))
    parsed = parser.parse_args()
    device = torch.device(parsed.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("no GPU here: unmeasured")
        show(UNMEASURED)
        save("gpu", UNMEASURED, device="none")
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}; torch {torch.__version__}\n")
    model = load(embedded_spec(), device)
    rows = core.rows(model, parsed.repeats) + _curve(model)
    show(rows)
    del model
    torch.cuda.empty_cache()
    rows.append(maximize_jobs.measured(parsed.device, parsed.steps, 224, parsed.turns))
    show(rows[-1:])
    if parsed.only:
        rows += company.measured(parsed.device, parsed.rate, parsed.requests, parsed.turns, parsed.only)
    save("gpu", rows, device=name)


def _curve(model: Model) -> list[Row]:
    """Measures passes of rising numbers of rows, as the server does when it starts."""
    with torch.no_grad(), closing(Lanes(torch.get_num_threads(), "lane")) as lanes:
        found = calibrate(model, lanes)
    rows = [Row("rows of a pass chosen", found.pass_rows, unit="rows")]
    for point in found.points:
        rows.append(Row(f"forward, {point.rows} row(s)", 1000 * point.rows / point.forward_ms, unit="images/s"))
        rows.append(Row(f"and backward, {point.rows} row(s)", 1000 * point.rows / point.gradient_ms, unit="images/s"))
    return rows


if __name__ == "__main__":
    main()
