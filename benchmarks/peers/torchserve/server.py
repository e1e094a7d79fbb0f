"""Writes TorchServe's model and configuration and becomes TorchServe, which needs Java 17."""

import json
import os
import shutil
import tempfile
from pathlib import Path

MODEL = "explainer"


def main() -> None:
    """Serves on PEER_PORT and the ports after it that it is given."""
    folder = Path(tempfile.mkdtemp(prefix="torchserve-"))
    archive = folder / MODEL
    (archive / "MAR-INF").mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "handler.py", archive)
    described = {"modelName": MODEL, "handler": "handler.py", "modelVersion": "1.0"}
    manifest = {"runtime": "python", "model": described, "archiverVersion": "0.12.0"}
    (archive / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    workers = int(os.environ["PEER_WORKERS"])
    served = {
        "defaultVersion": True,
        "marName": MODEL,
        "minWorkers": workers,
        "maxWorkers": workers,
        "batchSize": int(os.environ["PEER_BATCH"]),
        "maxBatchDelay": max(1, round(1000 * float(os.environ["PEER_WAIT"]))),
        "responseTimeout": 120,
    }
    management, metrics, grpc_inference, grpc_management = os.environ["PEER_PORTS"].split()
    lines = [
        f"inference_address=http://127.0.0.1:{os.environ['PEER_PORT']}",
        f"management_address=http://127.0.0.1:{management}",
        f"metrics_address=http://127.0.0.1:{metrics}",
        f"grpc_inference_port={grpc_inference}",
        f"grpc_management_port={grpc_management}",
        "disable_token_authorization=true",
        "enable_envvars_config=false",
        f"model_store={folder}",
        f"load_models={MODEL}",
        f"models={json.dumps({MODEL: {'1.0': served}})}",
    ]
    configuration = folder / "config.properties"
    configuration.write_text("\n".join(lines) + "\n")
    os.environ["LOG_LOCATION"] = os.environ["METRICS_LOCATION"] = str(folder)
    os.execvp("torchserve", ["torchserve", "--start", "--foreground", "--ts-config", str(configuration)])


if __name__ == "__main__":
    main()
