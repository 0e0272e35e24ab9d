"""The InstanSeg adapter against a stand-in of the package: what it asks of it, and what it makes of the answers.

The stand-in has the package's names and signatures, and a "network" that thresholds; the package itself is trained in
``test_external_learns.py`` where its environment is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bench.api import Task, UsageError
from bench.registry import find_method

pytest.importorskip("torch")

PACKAGE = {
    "instanseg/__init__.py": """
        import numpy as np
        import torch

        class InstanSeg:
            small_image_threshold = 60_000

            def __init__(self, model_type, image_reader, device, verbosity):
                self.model, self.ways = model_type, []

            def eval_small_image(self, image, pixel_size, return_image_tensor):
                return self._eval(image, pixel_size, "small")

            def eval_medium_image(self, image, pixel_size, return_image_tensor):
                return self._eval(image, pixel_size, "medium")

            def _eval(self, image, pixel_size, how):
                self.ways.append(how)
                window = 2 * getattr(self.model, "default_window_size", 32)
                seen = min(image.shape[1:]) * (pixel_size or 1) / (self.model.pixel_size if pixel_size else 1)
                assert seen >= window, f"{seen} < {window}: the package fails here"
                return self.model(torch.as_tensor(image)[None])
    """,
    "instanseg/scripts/train.py": """
        import argparse

        parser = argparse.ArgumentParser()
        for name, value in dict(
            n_sigma=2, binary_loss_fn="lovasz_hinge", seed_loss_fn="l1_distance", window_size=128,
            feature_engineering="0", bg_weight=None, dim_coords=2, dim_seeds=1, mlp_width=5, weight_decay=0.0,
            lr=0.5, dim_in=3, rng_seed=None, length_of_epoch=1000,
        ).items():
            parser.add_argument("--" + name, default=value)
    """,
    "instanseg/utils/AI_utils.py": """
        import torch

        epochs, looks = [], []
        f1s = iter(())

        def train_epoch(model, device, loader, loss, optimizer, args):
            batches = list(loader)
            epochs.append({
                "steps": len(batches), "seed_loss": loss.seed_loss, "binary_loss": loss.binary_loss,
                "rate": optimizer.param_groups[0]["lr"], "pixel": args.requested_pixel_size, "tile": args.tile_size,
                "meta": args.seen_meta, "first": batches[0].tolist(), "shapes": args.seen_shapes,
            })
            with torch.no_grad():
                model.bias += len(batches)  # what the weights are shows how long they were trained
            return args.answer, 0.1

        def test_epoch(model, device, loader, loss, args, postprocessing_fn, method, iou_threshold, best_f1):
            assert len(iou_threshold) == 10 and method is loss and best_f1 == float("inf")
            looks.append({"step": int(model.bias), "crops": len(loader.sampler), "images": args.seen_val})
            return 0.0, [next(f1s, float("nan"))], 0.1
    """,
    "instanseg/utils/data_loader.py": """
        import torch

        def get_loaders(images, labels, val_images, val_labels, meta, val_meta, args):
            args.seen_meta, args.seen_shapes = meta[0], [image.shape for image in images]
            args.seen_val = [(int(image.max()), int((label > 0).sum())) for image, label in zip(val_images, val_labels)]
            assert len(val_meta) == len(val_images) == len(val_labels)
            args.answer = float("nan") if images[0].min() == 13 else 1.0
            assert len(images) == len(labels) == len(meta) and args.num_workers > 0
            look = torch.utils.data.RandomSampler(val_images, num_samples=int(args.length_of_epoch * 0.2))
            return (
                torch.utils.data.DataLoader(torch.rand(args.length_of_epoch), args.batch_size),
                torch.utils.data.DataLoader(val_images, sampler=look),
            )
    """,
    "instanseg/utils/model_loader.py": """
        import torch

        def build_model_from_dict(asked):
            assert asked["dim_out"] == 5 and asked["cells_and_nuclei"] is False
            network = torch.nn.Conv2d(3, 1, 1)
            network.asked = asked["layers"]
            torch.nn.init.zeros_(network.bias)
            return network
    """,
    "instanseg/utils/loss/instanseg_loss.py": """
        import torch

        class InstanSeg(torch.nn.Module):
            def __init__(self, n_sigma, device, binary_loss_fn_str, seed_loss_fn, window_size,
                         feature_engineering_function, bg_weight, dim_coords, dim_seeds):
                super().__init__()
                self.dim_out = dim_coords + n_sigma + dim_seeds

            def update_seed_loss(self, name):
                self.seed_loss = name

            def update_binary_loss(self, name):
                self.binary_loss = name

            postprocessing = None

            def initialize_pixel_classifier(self, model, MLP_width):
                return model

        class InstanSeg_Torchscript(torch.nn.Module):
            def __init__(self, model, cells_and_nuclei: bool, pixel_size: float, n_sigma: int, dim_coords: int,
                         dim_seeds: int, backbone_dim_in: int, feature_engineering_function: str):
                super().__init__()
                self.pixel_size = pixel_size
                self.default_window_size = 32
                self.steps = float(model.bias.detach())

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                assert x.shape[1] == 3
                return (x.mean(1, keepdim=True) > 50).float()
    """,
}


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The adapter's script, beside the stand-in instead of the package."""
    for name, text in PACKAGE.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    for name in [name for name in sys.modules if name.partition(".")[0] == "instanseg"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    spec = importlib.util.spec_from_file_location("instanseg_tool", find_method("instanseg").method.script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def square(height: int = 120, width: int = 150, colours: int = 0, side: int = 12, dtype=np.uint8) -> np.ndarray:
    image = np.full((height, width), 10, dtype)
    image[3 : 3 + side, 4 : 4 + side] = 100
    return np.repeat(image[..., None], colours, axis=2) if colours else image


def square_label(image: np.ndarray) -> np.ndarray:
    return ((image if image.ndim == 2 else image[..., 0]) > 50).astype(np.int32)


def options_of(**settings: object) -> dict[str, object]:
    """What the harness hands to the script, with settings as a user writes them."""
    kind = find_method("instanseg").method
    return kind(Task(), kind.make_params("", {name: str(value) for name, value in settings.items()})).options()


def trained(
    tool: ModuleType,
    folder: Path,
    images=None,
    truths=None,
    steps: int = 9,
    seed: int = 0,
    batch: int = 2,
    validation=((), ()),
    **settings,
):
    """The file of weights, what was reported, and what the stand-in was asked for."""
    images = images or [square(), square(colours=4)]
    truths = truths or [square_label(image) for image in images]
    reports: list[tuple[int, int]] = []
    folder.mkdir()
    weights = tool.train(
        images,
        truths,
        {**options_of(**settings), "seed": seed, "steps": steps, "batch_size": batch},
        folder,
        lambda done, total: reports.append((done, total)),
        validation,
    )
    return weights, reports, importlib.import_module("instanseg.utils.AI_utils").epochs


def loaded(tool: ModuleType, weights: Path, **settings):
    return tool.load({**options_of(**settings), "weights": str(weights)})


def test_it_trains_in_the_two_stages_of_the_package(tool, tmp_path: Path):
    weights, reports, epochs = trained(tool, tmp_path / "t", crop=64, learning_rate=0.01)
    assert weights.is_file()
    assert weights.parent == tmp_path / "t"
    assert reports == [(step, 9) for step in range(1, 10)]
    assert [(e["steps"], e["seed_loss"], e["binary_loss"]) for e in epochs] == [
        (3, "binary_xloss", "dice_loss"),
        (6, "l1_distance", "lovasz_hinge"),
    ]
    assert {(e["rate"], e["tile"]) for e in epochs} == {(0.01, 64)}
    assert epochs[0]["shapes"] == [(120, 150, 3), (120, 150, 3)]  # gray and RGBA are both three channels


def trained_steps(weights: Path) -> float:
    """After how many steps the weights were kept."""
    import torch

    return torch.jit.load(str(weights)).steps


@pytest.mark.parametrize(
    ("f1s", "kept"),
    [
        ([0.2, 0.5, 0.5], 9),  # the earlier of two that are alike
        ([0.5, 0.2, 0.1], 6),
        ([0.1, 0.2, 0.3], 12),
        ([float("nan"), 0.0, float("nan")], 9),
        ([float("nan")] * 3, 12),  # no crop had a cell: the last ones
    ],
)
def test_the_weights_with_the_best_f1_of_the_second_stage_are_kept(tool, tmp_path: Path, f1s, kept):
    importlib.import_module("instanseg.scripts.train").parser.set_defaults(length_of_epoch=5)
    package = importlib.import_module("instanseg.utils.AI_utils")
    package.f1s = iter(f1s)
    held = [square(side=9), square(colours=3, side=10)]
    validation = held, [square_label(image) for image in held]
    weights, reports, epochs = trained(tool, tmp_path / "t", steps=12, hotstart=3, validation=validation)
    assert [e["steps"] for e in epochs] == [3, 3, 3, 3]
    assert [look["step"] for look in package.looks] == [6, 9, 12]
    assert {tuple(look["images"]) for look in package.looks} == {((100, 81), (100, 100))}
    assert trained_steps(weights) == kept
    assert reports[-1] == (12, 12)


def test_without_validation_images_the_last_weights_are_kept(tool, tmp_path: Path):
    weights, *_ = trained(tool, tmp_path / "t", steps=9)
    assert importlib.import_module("instanseg.utils.AI_utils").looks == []
    assert trained_steps(weights) == 9


@pytest.mark.parametrize(("steps", "hotstart", "stages"), [(9, 2, [2, 7]), (9, 0, [9]), (2, 3340, [2])])
def test_the_first_stage_takes_at_most_a_third(tool, tmp_path: Path, steps: int, hotstart: int, stages: list[int]):
    _, reports, epochs = trained(tool, tmp_path / "t", steps=steps, hotstart=hotstart)
    assert [e["steps"] for e in epochs] == stages
    assert reports[-1] == (steps, steps)


@pytest.mark.parametrize("steps", [1, 2, 6])
def test_a_training_of_few_crops(tool, tmp_path: Path, steps: int):
    _, reports, epochs = trained(tool, tmp_path / "t", [square()], steps=steps, batch=1)
    assert sum(e["steps"] for e in epochs) == steps
    assert reports[-1] == (steps, steps)


def test_the_seed_decides(tool, tmp_path: Path):
    draws = []
    for number, seed in enumerate((1, 1, 2)):
        draws.append(trained(tool, tmp_path / f"{number}", seed=seed)[2][-2]["first"])
    assert draws[0] == draws[1] != draws[2]


@pytest.mark.parametrize(
    ("settings", "side", "meta", "model"),
    [
        ({}, 12, 1.0, 1.0),  # unknown, and small enough: left as they are
        ({}, 96, 1.0, 2.0),  # unknown, twice the 48 pixels that fit: half the size
        ({"largest": 24}, 96, 1.0, 4.0),
        ({"pixel_size": 0.25}, 96, 0.25, 0.5),  # known: to half a micrometre, whatever the objects
    ],
)
def test_the_size_that_the_network_sees(tool, tmp_path: Path, settings, side: int, meta: float, model: float):
    weights, _, epochs = trained(tool, tmp_path / "t", [square(side=side)], **settings)
    assert epochs[-1]["meta"]["pixel_size"] == meta
    assert epochs[-1]["pixel"] == model
    ready = loaded(tool, weights, **settings)
    for image in (square(side=side), square(height=110, width=101, side=side)):  # the second is padded where shrunk
        np.testing.assert_array_equal(tool.segment(ready, image), square_label(image))


@pytest.mark.parametrize(
    "image",
    [
        square(),
        square(dtype=np.uint16),
        square(colours=3),
        square(colours=4),
        square(colours=1),
        square(colours=2),
        square(20, 17),
        square(300, 401),  # above the stand-in's limit of a small image
        np.full((1, 1), 10, np.uint8),
    ],
    ids=lambda image: f"{image.dtype} {image.shape}",
)
def test_every_kind_of_image_is_answered_at_its_own_size(tool, tmp_path: Path, image: np.ndarray):
    ready = loaded(tool, trained(tool, tmp_path / "t", steps=2)[0])
    image.flags.writeable = False
    found = tool.segment(ready, image)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, square_label(image))


def test_large_images_go_through_the_package_s_tiles(tool, tmp_path: Path):
    model, *rest = loaded(tool, trained(tool, tmp_path / "t", steps=2)[0])
    tool.segment((model, *rest), square())
    tool.segment((model, *rest), square(300, 401))
    assert model.ways == ["small", "medium"]


def test_weights_and_pixel_size_must_fit(tool, tmp_path: Path):
    of_known, of_unknown = (
        trained(tool, tmp_path / name, **settings)[0] for name, settings in (("a", {"pixel_size": 0.5}), ("b", {}))
    )
    with pytest.raises(ValueError, match="trained without a pixel size"):
        loaded(tool, of_unknown, pixel_size=0.5)
    with pytest.raises(ValueError, match="trained with a pixel size"):
        loaded(tool, of_known)


def published(path: Path, pixel_size: float) -> Path:
    """A TorchScript model of one channel, as others would export it."""
    import torch

    class Published(torch.nn.Module):
        def __init__(self, pixel_size: float) -> None:
            super().__init__()
            self.pixel_size = pixel_size

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            assert x.shape[1] == 1  # gray stays gray
            return (x > 50).float()

    torch.jit.script(Published(pixel_size)).save(str(path))
    return path


@pytest.mark.parametrize("settings", [{}, {"pixel_size": 0.25}])
def test_a_model_of_others_is_used_as_it_is(tool, tmp_path: Path, settings):
    ready = loaded(tool, published(tmp_path / "instanseg.pt", 0.5), **settings)
    for image in (square(), square(18, 20)):
        np.testing.assert_array_equal(tool.segment(ready, image), square_label(image))


def test_a_model_of_others_without_a_pixel_size(tool, tmp_path: Path):
    path = published(tmp_path / "instanseg.pt", float("nan"))
    np.testing.assert_array_equal(tool.segment(loaded(tool, path), square()), square_label(square()))
    with pytest.raises(ValueError, match="exported without a pixel size"):
        loaded(tool, path, pixel_size=0.25)


@pytest.mark.parametrize(
    ("image", "truth", "says"),
    [
        (square(), np.zeros((120, 150), np.int32), "no training image has a cell"),
        (square(15, 80, side=8), square_label(square(15, 80, side=8)), "a side of fewer than 16 pixels"),
        (np.full((120, 150), 13, np.uint8), square_label(square()), "the loss is no number any more"),
    ],
)
def test_a_training_that_cannot_be(tool, tmp_path: Path, image: np.ndarray, truth: np.ndarray, says: str):
    with pytest.raises(ValueError, match=says):
        trained(tool, tmp_path / "t", [image], [truth])
    assert not list((tmp_path / "t").iterdir())


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ({"crop": "100"}, "multiple of 8"),
        ({"widths": "8,0"}, "widths"),
        ({"widths": ""}, "widths"),
        ({"hotstart": "-1"}, "hotstart"),
        ({"pixel_size": "-0.5"}, "pixel_size"),
        ({"learning_rate": "0"}, "learning_rate"),
        ({"largest": "nan"}, "largest"),
    ],
)
def test_settings_that_cannot_be(setting: dict[str, str], says: str):
    with pytest.raises(UsageError, match=says):
        find_method("instanseg").method.make_params("", setting)


# -- beside a torchvision whose compiled operators do not fit torch -------------------------------------


def test_a_torchvision_that_does_not_fit_torch_can_still_be_imported(tmp_path: Path, checkout: Path):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "_C.so").write_bytes(b"no library")
    (package / "__init__.py").write_text(
        textwrap.dedent("""
        import torch

        @torch.library.register_fake("torchvision::nms")
        def nms(dets, scores, iou_threshold):
            return dets

        @torch.library.register_fake("torchvision::qnms")
        def qnms(dets, scores, iou_threshold):
            return dets
        """)
    )
    helper = checkout / "methods" / "_external_torchvision.py"
    code = f"""
import runpy, sys
try:
    import torchvision
except RuntimeError as error:
    print(error)
sys.modules.pop("torchvision", None)
for _ in range(2):
    runpy.run_path({str(helper)!r})
import torchvision
print("imported")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["operator torchvision::nms does not exist", "imported"], done.stderr
