"""A caller that uses each part of the client once. It knows of no other package than the client brings along."""

import asyncio
import json
import sys
from pathlib import Path

from gradserve import Client, InvalidRequest, aio, compare, methods


def main(address: str, photograph: Path) -> None:
    """Calls the server."""
    with Client(address) as client:
        client.wait_ready()
        explanation = client.explain(photograph, method=methods.Saliency(reduction="sum"), target="espresso")
        assert explanation.heatmap.shape == (400, 600)
        assert explanation.overlay is not None
        json.dumps(explanation.to_dict())
        several = client.explain_many(photograph, methods=["grad_cam", methods.GuidedBackprop()], top_k=2)
        assert compare(several, original=photograph).size > (0, 0)
        outcomes = list(client.explain_stream([photograph, b"no image", photograph], in_flight=2))
        assert [one.error is None for one in outcomes] == [True, False, True]
        try:
            client.explain(photograph, target="expresso")
        except InvalidRequest as error:
            assert error.field_violations[0].field == "targets[0].class_label"
        assert client.list_models()[0].layers
        assert client.maximize(class_label="goldfish", steps=2, size=64).result().image.size == (64, 64)
        assert client.stylize(photograph, stylizer="stained_glass", size=64).result().image.width == 64
    asyncio.run(asynchronous(address, photograph))
    print("explain, explain_many, explain_stream, maximize, stylize, list_models: answered")


async def asynchronous(address: str, photograph: Path) -> None:
    """Calls the server by asyncio."""
    async with aio.Client(address) as client:
        await client.wait_ready()
        assert [one.index async for one in client.explain_stream([photograph] * 3)] == [0, 1, 2]
        assert (await client.maximize(class_label="goldfish", steps=2, size=64).result()).image.size == (64, 64)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
