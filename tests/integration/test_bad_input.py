"""Bad input: each works as a person expects, or gets a clear error that names the field."""

import io
import struct

import grpc
import numpy as np
import PIL.Image
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from tests.conftest import jpeg, photograph

from gradserve import Client, InvalidRequest, NotFound, Unsupported
from gradserve.v1 import (
    explain_pb2,
    explainer_service_pb2_grpc,
    image_pb2,
)


def file_of(image: PIL.Image.Image, name: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, name, **options)
    return file.getvalue()


def coffee() -> PIL.Image.Image:
    return PIL.Image.fromarray(photograph("coffee"))


def fails(error: type, field: str, *words: str, client: Client, image=None, **arguments) -> None:
    with pytest.raises(error) as caught:
        client.explain(jpeg("coffee") if image is None else image, **arguments)
    assert [violation.field for violation in caught.value.field_violations] == [field]
    for word in words:
        assert word in caught.value.message


def test_an_unknown_model_names_the_nearest(client: Client) -> None:
    fails(NotFound, "model", "efficientnet_lite0", client=client, model="efficientnet")


def test_an_unknown_layer_names_the_nearest_three(client: Client) -> None:
    fails(
        InvalidRequest,
        "methods[0].grad_cam.layers[0]",
        "blocks.6",
        "blocks.5",
        "blocks.4",
        client=client,
        layer="blocks.7",
    )


def test_a_layer_without_positions(client: Client) -> None:
    fails(InvalidRequest, "methods[0].grad_cam.layers[0]", "[1000]", "bn2", client=client, layer="classifier")


def test_an_unknown_label_names_the_nearest(client: Client) -> None:
    fails(InvalidRequest, "targets[0].class_label", "espresso", client=client, target="expresso")


def test_an_ambiguous_label_names_the_indices(client: Client) -> None:
    fails(InvalidRequest, "targets[0].class_label", "264", "474", client=client, target="cardigan")


@pytest.mark.parametrize("index", [-1, 1000, 2**31 - 1])
def test_a_class_that_does_not_exist(client: Client, index: int) -> None:
    fails(InvalidRequest, "targets[0].class_index", "0 to 999", client=client, target=index)


@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet", "guided_grad_cam"])
def test_a_rule_for_rectifiers_on_a_model_without(client: Client, method: str) -> None:
    fails(Unsupported, f"methods[0].{method}", "ReLU", client=client, method=method, model="without_rectifier")


def test_attention_of_a_model_without(client: Client) -> None:
    fails(Unsupported, "methods[0].attention_rollout", "it has no attention", client=client, method="attention_rollout")


def test_a_method_on_a_layer_on_a_model_without(client: Client) -> None:
    fails(Unsupported, "methods[0].grad_cam", "[channels, height, width]", client=client, model="without_layers")


def test_a_client_mistake_is_found_before_it_is_sent(client: Client) -> None:
    with pytest.raises(TypeError, match="grad_cam"):
        client.explain(jpeg("coffee"), method="gradcam")
    with pytest.raises(TypeError, match="relu"):
        client.explain(jpeg("coffee"), rellu=True)
    with pytest.raises(ValueError, match="max_abs"):
        client.explain(jpeg("coffee"), method="saliency", reduction="maximum")
    with pytest.raises(TypeError, match="path, bytes"):
        client.explain(7)


@pytest.mark.parametrize(
    ("overlay", "field"),
    [
        ({"color_map": "infern"}, "overlay.color_map"),
        ({"opacity": 1.5}, "overlay.opacity"),
        ({"opacity": float("nan")}, "overlay.opacity"),
        ({"clip_percent_lowerbound": 99.95}, "overlay.clip_percent_lowerbound"),
        ({"contour_percent": 100.0}, "overlay.contour_percent"),
        ({"contour_percent": float("nan")}, "overlay.contour_percent"),
        ({"type": 7}, "overlay.type"),
    ],
)
def test_overlay_out_of_range(client: Client, overlay: dict, field: str) -> None:
    fails(InvalidRequest, field, client=client, overlay=overlay)


@pytest.mark.parametrize("count", [0, 101, -3])
def test_prediction_count_out_of_range(client: Client, count: int) -> None:
    fails(InvalidRequest, "prediction_count", "1 to 100", client=client, prediction_count=count)


def test_a_negative_seed(client: Client) -> None:
    fails(InvalidRequest, "seed", client=client, seed=-1)


@pytest.mark.parametrize(
    ("trust", "field"),
    [
        ({"step_count": 1001}, "trust.step_count"),
        ({"sample_count": -1}, "trust.sample_count"),
        ({"transforms": [{"rotation": {"degrees": 181.0}}]}, "trust.transforms[0].rotation.degrees"),
        ({"transforms": [{"horizontal_flip": {}}, {"translation": {"x_px": 113}}]}, "trust.transforms[1].x_px"),
        ({"transforms": [{}]}, "trust.transforms[0]"),
    ],
)
def test_trust_options_out_of_range(client: Client, trust: dict, field: str) -> None:
    fails(InvalidRequest, field, client=client, trust=trust)


class TestImages:
    """Files that people really send."""

    def heatmap(self, client: Client, image, **options) -> np.ndarray:
        return client.explain(image, overlay=False, **options).heatmap

    @pytest.mark.parametrize(
        "data",
        [b"", b"not an image", jpeg("coffee")[:200], b"GIF89a" + bytes(100)],
        ids=["empty", "text", "header only", "gif"],
    )
    def test_undecodable(self, client: Client, data: bytes) -> None:
        fails(InvalidRequest, "image.encoded", "JPEG, PNG or WebP", client=client, image=data)

    @pytest.mark.parametrize("name", ["PNG", "JPEG", "WEBP"])
    def test_truncated(self, client: Client, name: str) -> None:
        data = file_of(coffee(), name)
        fails(InvalidRequest, "image.encoded", "whole", client=client, image=data[: len(data) // 2])

    def test_too_many_bytes(self, client: Client) -> None:
        data = jpeg("coffee") + bytes(1 << 20)
        fails(InvalidRequest, "image.encoded", "1048576", client=client, image=data)

    def test_too_many_pixels_are_found_in_the_header(self, client: Client) -> None:
        """A PNG that claims 100000 x 100000 pixels but holds none: it cannot have been decoded."""
        header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
        data = b"\x89PNG\r\n\x1a\n" + _png_chunk(b"IHDR", header) + _png_chunk(b"IDAT", b"") + _png_chunk(b"IEND", b"")
        fails(InvalidRequest, "image.encoded", "4000000", client=client, image=data)

    def test_a_few_too_many_pixels(self, client: Client) -> None:
        data = file_of(PIL.Image.new("RGB", (2001, 2000)))
        fails(InvalidRequest, "image.encoded", "2001 x 2000", client=client, image=data)

    @pytest.mark.parametrize("size", [(1, 1), (1, 400), (400, 1), (3, 2), (2000, 2), (17, 1000)])
    def test_odd_sizes_work(self, client: Client, size: tuple[int, int]) -> None:
        image = coffee().resize(size)
        assert self.heatmap(client, file_of(image)).shape == (size[1], size[0])

    def test_exif_orientation_is_applied(self, client: Client) -> None:
        """A photograph stored on its side is explained upright, as a person sees it."""
        exif = PIL.Image.Exif()
        exif[0x0112] = 6
        sideways = coffee().transpose(PIL.Image.Transpose.ROTATE_90)
        rotated = self.heatmap(client, file_of(sideways, exif=exif))
        np.testing.assert_allclose(rotated, self.heatmap(client, file_of(coffee())), atol=1e-6)

    def test_alpha_is_flattened_on_white(self, client: Client) -> None:
        transparent = coffee().convert("RGBA")
        alpha = np.full((400, 600), 255, np.uint8)
        alpha[:, :200] = 0
        transparent.putalpha(PIL.Image.fromarray(alpha))
        white = photograph("coffee").copy()
        white[:, :200] = 255
        np.testing.assert_allclose(
            self.heatmap(client, file_of(transparent)), self.heatmap(client, file_of(PIL.Image.fromarray(white)))
        )

    def test_palette_with_transparency(self, client: Client) -> None:
        palette = coffee().quantize(64)
        flat = palette.convert("RGB")
        np.testing.assert_allclose(self.heatmap(client, file_of(palette)), self.heatmap(client, file_of(flat)))
        assert self.heatmap(client, file_of(palette, transparency=0)).shape == (400, 600)

    @pytest.mark.parametrize("mode", ["L", "LA", "1", "P"])
    def test_grey_and_palette_modes(self, client: Client, mode: str) -> None:
        image = coffee().convert(mode)
        expected = self.heatmap(client, file_of(image.convert("RGB")))
        np.testing.assert_allclose(self.heatmap(client, file_of(image)), expected)

    def test_sixteen_bit_grey(self, client: Client) -> None:
        grey = np.asarray(coffee().convert("L"))
        wide = PIL.Image.fromarray(grey.astype(np.uint16) << 8)
        np.testing.assert_allclose(
            self.heatmap(client, file_of(wide)), self.heatmap(client, file_of(PIL.Image.fromarray(grey)))
        )

    def test_cmyk(self, client: Client) -> None:
        cmyk = file_of(coffee().convert("CMYK"), "JPEG", quality=95)
        similar = np.corrcoef(self.heatmap(client, cmyk).ravel(), self.heatmap(client, jpeg("coffee")).ravel())[0, 1]
        assert similar > 0.9

    def test_the_first_frame_of_an_animation(self, client: Client) -> None:
        frames = file_of(coffee(), "WEBP", save_all=True, append_images=[coffee().rotate(90)], lossless=True)
        np.testing.assert_allclose(self.heatmap(client, frames), self.heatmap(client, file_of(coffee())))

    def test_an_answer_that_would_be_too_large(self, client: Client) -> None:
        data = file_of(PIL.Image.new("RGB", (2000, 2000)))
        with pytest.raises(InvalidRequest, match="MODEL_INPUT"):
            client.explain_many(data, methods=["saliency"] * 5, overlay=False)
        assert client.explain(data, frame="model_input", overlay=False).heatmap.shape == (224, 224)


class TestMessages:
    """What only a caller without our client can send."""

    @pytest.fixture
    def stub(self, address: str):
        with grpc.insecure_channel(address) as channel:
            yield explainer_service_pb2_grpc.ExplainerServiceStub(channel)

    def refused(self, call, request, code: grpc.StatusCode, field: str) -> grpc.RpcError:
        with pytest.raises(grpc.RpcError) as caught:
            call(request)
        error = caught.value
        assert error.code() is code
        details = {detail.type_url.rpartition(".")[2]: detail for detail in rpc_status.from_call(error).details}
        info = error_details_pb2.ErrorInfo.FromString(details["ErrorInfo"].value)
        assert info.domain == "gradserve"
        assert info.reason.isupper()
        if field:
            violations = error_details_pb2.BadRequest.FromString(details["BadRequest"].value).field_violations
            assert [violation.field for violation in violations] == [field]
        return error

    def test_nothing_at_all(self, stub) -> None:
        self.refused(stub.Explain, explain_pb2.ExplainRequest(), grpc.StatusCode.INVALID_ARGUMENT, "methods")

    def test_no_image(self, stub) -> None:
        request = explain_pb2.ExplainRequest(methods=[explain_pb2.Method(saliency={})])
        self.refused(stub.Explain, request, grpc.StatusCode.INVALID_ARGUMENT, "image")

    def test_a_method_without_its_kind(self, stub) -> None:
        request = explain_pb2.ExplainRequest(methods=[{"saliency": {}}, {}])
        self.refused(stub.Explain, request, grpc.StatusCode.INVALID_ARGUMENT, "methods[1]")

    def test_an_enumeration_from_the_future(self, stub) -> None:
        request = explain_pb2.ExplainRequest(methods=[{"saliency": {"reduction": 77}}])
        self.refused(stub.Explain, request, grpc.StatusCode.INVALID_ARGUMENT, "methods[0].saliency.reduction")

    def test_too_many_methods(self, stub) -> None:
        request = explain_pb2.ExplainRequest(methods=[{"saliency": {}}] * 33)
        self.refused(stub.Explain, request, grpc.StatusCode.INVALID_ARGUMENT, "methods")

    @pytest.mark.parametrize("count", [0, -1, 21])
    def test_top_k_out_of_range(self, stub, count: int) -> None:
        request = explain_pb2.ExplainRequest(methods=[{"saliency": {}}], targets=[{"top_k": count}])
        self.refused(stub.Explain, request, grpc.StatusCode.INVALID_ARGUMENT, "targets[0].top_k")

    @pytest.mark.parametrize(
        ("tensor", "field"),
        [
            ({}, "image.pixels.data_type"),
            ({"data_type": 1, "shape": [2, 2, 3], "data": b"short"}, "image.pixels.data"),
            ({"data_type": 1, "shape": [2, 2], "data": bytes(4)}, "image.pixels.shape"),
            ({"data_type": 1, "shape": [2, 2, 4], "data": bytes(16)}, "image.pixels.shape"),
            ({"data_type": 1, "shape": [0, 2, 3]}, "image.pixels.shape"),
            ({"data_type": 1, "shape": [-1, -2, 3], "data": bytes(6)}, "image.pixels.shape"),
            ({"data_type": 4, "shape": [1, 1, 3], "data": bytes(24)}, "image.pixels.data_type"),
            ({"data_type": 3, "shape": [1, 1, 3], "data": struct.pack("<3f", 0, 2, 0)}, "image.pixels.data"),
            ({"data_type": 3, "shape": [1, 1, 3], "data": struct.pack("<3f", 0, float("nan"), 0)}, "image.pixels.data"),
            ({"data_type": 99, "shape": [1, 1, 3], "data": bytes(3)}, "image.pixels.data_type"),
        ],
    )
    def test_pixels_that_do_not_fit(self, stub, tensor: dict, field: str) -> None:
        image = image_pb2.Image(pixels=tensor)
        request = explain_pb2.ExplainRequest(methods=[{"saliency": {}}], image=image)
        self.refused(stub.Explain, request, grpc.StatusCode.INVALID_ARGUMENT, field)

    def test_a_message_over_the_limit(self, stub) -> None:
        request = explain_pb2.ExplainRequest(image=image_pb2.Image(encoded=bytes(18 << 20)))
        with pytest.raises(grpc.RpcError) as caught:
            stub.Explain(request)
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def _png_chunk(kind: bytes, data: bytes) -> bytes:
    import zlib

    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
