"""The network: its weights counted by hand, any image size, Xavier initialisation."""

import math

import pytest

torch = pytest.importorskip("torch")

from methods._unet import UNet, initialise, pad_to_multiple  # noqa: E402


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def test_the_parameters_of_a_small_network_counted_by_hand():
    network = UNet(1, (2, 3), {"foreground": 1})
    # 3x3 convolutions, weights + biases: 1->2, 2->2, 2->3, 3->3, and after the concatenation 4->2, 2->2.
    convolutions = (18 + 2) + (36 + 2) + (54 + 3) + (81 + 3) + (72 + 2) + (36 + 2)
    assert parameters(network) == convolutions + (2 * 2 * 3 * 2 + 2) + (2 + 1)


def test_upsampling_without_weights_concatenates_the_deeper_channels():
    network = UNet(1, (2, 3), {"foreground": 1}, up="bilinear")
    convolutions = (18 + 2) + (36 + 2) + (54 + 3) + (81 + 3) + (9 * 5 * 2 + 2) + (36 + 2)
    assert parameters(network) == convolutions + (2 + 1)


def test_a_normalised_convolution_has_scale_and_shift_instead_of_a_bias():
    plain, normalised = (parameters(UNet(1, (2, 3), {"foreground": 1}, norm=n)) for n in ("none", "batch"))
    assert normalised - plain == 2 + 2 + 3 + 3 + 2 + 2
    assert parameters(UNet(1, (2, 3), {"foreground": 1}, norm="group")) == normalised


def test_the_published_network_level_by_level():
    widths, total, channels = (64, 128, 256, 512, 1024), 0, 1
    for width in widths:
        total += 9 * channels * width + width + 9 * width * width + width
        channels = width
    for deep, shallow in ((1024, 512), (512, 256), (256, 128), (128, 64)):
        total += 4 * deep * shallow + shallow  # 2x2 transposed convolution
        total += 9 * (2 * shallow) * shallow + shallow + 9 * shallow * shallow + shallow
    total += 64 + 1
    with torch.device("meta"):
        assert parameters(UNet(1, widths, {"foreground": 1})) == total == 31_030_593


def test_heads_share_all_but_their_last_convolution():
    one = parameters(UNet(1, (4, 8), {"mask": 2}))
    network = UNet(1, (4, 8), {"mask": 2, "marker": 3})
    assert parameters(network) == one + 4 * 3 + 3
    outputs = network(torch.zeros(2, 1, 8, 8))
    assert {name: tuple(o.shape) for name, o in outputs.items()} == {"mask": (2, 2, 8, 8), "marker": (2, 3, 8, 8)}


@pytest.mark.parametrize("up", ["transposed", "bilinear"])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (13, 5), (16, 16), (17, 31)])
def test_any_size_goes_in_and_comes_out(size, up):
    network = UNet(3, (2, 2, 2, 2), {"foreground": 1}, up=up).eval()
    assert network.stride == 8
    outputs = network(torch.rand(2, 3, *size))
    assert outputs["foreground"].shape == (2, 1, *size)
    assert torch.isfinite(outputs["foreground"]).all()


def test_padding_repeats_the_edge_below_and_on_the_right_and_changes_nothing_that_fits():
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert pad_to_multiple(image, 4)[0, 0].tolist() == [[0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]]
    assert pad_to_multiple(image, 1) is image


def test_a_size_that_does_not_divide_gives_what_the_padded_image_gives():
    torch.manual_seed(0)
    network = UNet(1, (3, 4, 5), {"foreground": 1}).eval()
    image = torch.rand(1, 1, 10, 7)
    padded = network(pad_to_multiple(image, 4))["foreground"]
    torch.testing.assert_close(network(image)["foreground"], padded[..., :10, :7])


def test_the_bottleneck_input_is_open_to_another_head():
    network = UNet(1, (4, 6, 8), {"mask": 1})
    skips, pooled = network.encode(torch.rand(1, 1, 16, 24))
    assert [tuple(s.shape[1:]) for s in skips] == [(4, 16, 24), (6, 8, 12)]
    assert tuple(pooled.shape[1:]) == (6, 4, 6)
    assert tuple(network.decode(skips, pooled).shape) == (1, 4, 16, 24)


def test_xavier_normal_has_its_variance_and_biases_are_zero():
    torch.manual_seed(0)
    network = UNet(1, (64, 128), {"foreground": 1})
    convolution = network.down[1][2]
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9 + 128 * 9)), rel=0.02)
    assert all((m.bias == 0).all() for m in network.modules() if isinstance(m, torch.nn.Conv2d))
    initialise(network, "kaiming_normal")
    assert convolution.weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)


@pytest.mark.parametrize("wrong", [{"norm": "layer"}, {"up": "nearest"}, {"init": "ones"}])
def test_unknown_choices_are_refused(wrong):
    with pytest.raises(ValueError, match="unknown"):
        UNet(1, (2, 2), {"foreground": 1}, **wrong)
