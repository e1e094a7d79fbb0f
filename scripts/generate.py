"""Generates the client's code from the protos, or with --check says whether it has drifted.

Committed, because callers install the client without a compiler. The generator is pinned in constraints.txt to an old
release on purpose: generated code demands a protobuf and a grpcio at least as new as its generator.
"""

import argparse
import filecmp
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PROTOS = ROOT / "protos"
CLIENT = ROOT / "client"
PACKAGE = Path("gradserve/v1")
METHODS = Path("gradserve/methods.py")
SERVICES = ("explainer_service.proto",)


def generate(target: Path) -> None:
    """Writes the generated code under `target`."""
    protos = sorted(str(path.relative_to(PROTOS)) for path in (PROTOS / PACKAGE).glob("*.proto"))
    services = [str(PACKAGE / name) for name in SERVICES]
    run = ["protoc", f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}"]
    if protoc.main([*run, f"--python_out={target}", f"--pyi_out={target}", *protos]) or protoc.main(
        [*run, f"--grpc_python_out={target}", *services]
    ):
        sys.exit("protoc failed")
    # Not before: the server's methods know the generated code, by way of the packages that they are in.
    from client_methods import source

    (target / METHODS).write_text(source(_with_comments("gradserve/v1/explain.proto")), encoding="utf-8")


def _with_comments(proto: str) -> FileDescriptorProto:
    with tempfile.NamedTemporaryFile() as file:
        run = ["protoc", f"-I{PROTOS}", f"-I{files('grpc_tools') / '_proto'}", "--include_source_info"]
        if protoc.main([*run, f"--descriptor_set_out={file.name}", proto]):
            sys.exit("protoc failed")
        (found,) = FileDescriptorSet.FromString(Path(file.name).read_bytes()).file
    return found


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the code has drifted")
    if not parser.parse_args().check:
        generate(CLIENT)
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder))
        expected = {str(path.relative_to(folder)) for path in Path(folder).rglob("*.py*")}
        committed = {str(path.relative_to(CLIENT)) for path in (CLIENT / PACKAGE).glob("*_pb2*.py*")}
        _, changed, missing = filecmp.cmpfiles(folder, CLIENT, sorted(expected | committed), shallow=False)
    if changed or missing:
        sys.exit(f"drifted from the protos, run `make generate`: {', '.join(changed + missing)}")


if __name__ == "__main__":
    main()
