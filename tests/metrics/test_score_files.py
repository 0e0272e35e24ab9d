"""``bench score``: every kind of file, every way in which one can be wrong."""

import contextlib
import csv
import io
import json

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from bench import rle
from bench.api import BenchError, DataError, Instances, OutputError, UnknownNameError, UsageError
from bench.cli.score import command
from bench.metrics import score


def run(*arguments):
    """Run the command; what it raises is raised."""
    result = CliRunner().invoke(command, [str(a) for a in arguments], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result


def scored(*arguments):
    return json.loads(run(*arguments, "--json", "-").stdout)


def cells(seed, shape=(60, 80), count=12):
    """A label image of touching blocks, and another that is the first moved by a pixel or two."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(shape, np.uint16)
    for label in range(1, count + 1):
        y, x = rng.integers(0, shape[0] - 10), rng.integers(0, shape[1] - 10)
        labels[y : y + rng.integers(4, 10), x : x + rng.integers(4, 10)] = label
    return labels, np.roll(labels, rng.integers(-2, 3, 2), (0, 1))


@pytest.fixture
def pairs():
    return [cells(seed) for seed in range(3)]


def write_labels(folder, images, name):
    folder.mkdir(parents=True)
    for index, labels in enumerate(images):
        tifffile.imwrite(folder / name.format(index), labels)
    return folder


def write_coco(folder, pairs, *, scores=True):
    """Truth and results as COCO JSON; the second category has the higher id but comes first."""
    rng = np.random.default_rng(0)
    truth = {"images": [], "annotations": [], "categories": [{"id": 7, "name": "b"}, {"id": 3, "name": "a"}]}
    results = []
    for image, (labels, moved) in enumerate(pairs, start=10):
        height, width = labels.shape
        truth["images"].append(
            {"id": image, "file_name": f"some/where/img{image}.tif", "height": height, "width": width}
        )
        for side, found in (("truth", Instances.from_label_map(labels)), ("results", Instances.from_label_map(moved))):
            for i in range(len(found)):
                x0, y0, x1, y1 = found.boxes[i].tolist()
                entry = {
                    "image_id": image,
                    "category_id": 3 if i % 3 else 7,
                    "segmentation": {"size": [height, width], "counts": found.rles[i].decode()},
                }
                if side == "truth":
                    entry |= {"id": len(truth["annotations"]) + 1, "iscrowd": int(i == 5), "area": int(found.areas[i])}
                    truth["annotations"].append(entry | {"bbox": [x0, y0, x1 - x0, y1 - y0]})
                else:
                    results.append(entry | ({"score": round(float(rng.random()), 1)} if scores else {}))
    folder.mkdir(exist_ok=True)
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "results.json").write_text(json.dumps(results))
    return folder / "truth.json", folder / "results.json"


def edited(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


# -- what it says ---------------------------------------------------------------------------------


def test_json_has_the_promised_shape(tmp_path, pairs):
    found = scored("--truth", *_paths(write_coco(tmp_path, pairs)))
    assert found["n_images"] == 3
    assert found["n_truth"] == sum(len(np.unique(labels)) - 2 for labels, _ in pairs)  # but background and a crowd
    assert found["n_pred"] == sum(len(np.unique(moved)) - 1 for _, moved in pairs)
    promised = {
        "voc": {"AP@0.5", "AP@0.7", "IoU@0.5", "IoU@0.7"},
        "coco": {"AP", "AP50", "AP75", "APs", "APm", "APl"},
        "kaggle": {"mAP@.5:.95"},
        "ctc": {"SEG", "DET"},
        "semantic": {"pixel_error", "mean_iou", "rmse"},
        "touching": {"instance_error"},
        "panoptic": {"PQ", "SQ", "RQ", "F1@0.5", "AJI", "dice"},
    }
    for name, metrics in promised.items():
        assert metrics <= set(found["protocols"][name])
    assert found["protocols"]["coco"]["APl"] is None
    assert "no truth instance" in found["reasons"]["coco"]["APl"]
    for name, values in found["protocols"].items():
        assert {m for m, value in values.items() if value is None} == set(found["reasons"].get(name, {}))


def _paths(both):
    truth, prediction = both
    return truth, "--pred", prediction


def test_coco_files_are_scored_as_pycocotools_does(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    found = scored("--truth", truth, "--pred", prediction, "--protocol", "coco")["protocols"]["coco"]
    for kind, prefix in (("segm", ""), ("bbox", "box_")):
        with contextlib.redirect_stdout(io.StringIO()):
            reference = COCO(str(truth))
            evaluation = COCOeval(reference, reference.loadRes(str(prediction)), kind)
            evaluation.params.maxDets = [2000]
            evaluation.evaluate()
            evaluation.accumulate()
        precision = evaluation.eval["precision"][..., 0]
        assert found[f"{prefix}AP"] == pytest.approx(precision[..., 0][precision[..., 0] > -1].mean(), abs=1e-9)
    for label, row in (("a", 0), ("b", 1)):
        assert found[f"box_AP/{label}"] == pytest.approx(precision[:, :, row, 0].mean(), abs=1e-9)


def test_areas_and_boxes_stated_in_the_file_are_taken(tmp_path, pairs):
    """A polygon's area and box are not those of its pixels; the COCO API goes by the file."""
    truth, prediction = write_coco(tmp_path, pairs)

    def state(data):
        for annotation in data["annotations"]:
            annotation["area"] = 2000.5
            annotation["bbox"] = [0.5, 0.5, 3, 3]

    edited(truth, state)
    found = scored("--truth", truth, "--pred", prediction, "--protocol", "coco")["protocols"]["coco"]
    assert found["APs"] is None
    assert found["APm"] > 0
    assert found["box_AP"] == 0


def test_files_score_as_arrays_do(tmp_path, pairs):
    folders = (
        write_labels(tmp_path / "t", [t for t, _ in pairs], "a{}.tif"),
        write_labels(tmp_path / "p", [p for _, p in pairs], "a{}.tif"),
    )
    found = scored("--truth", folders[0], "--pred", folders[1])["protocols"]
    expected = score([t for t, _ in pairs], [p for _, p in pairs], "all", intervals=False)
    assert found == {n: {r.metric: r.value for r in p.results} for n, p in expected.protocols.items()}
    assert found["voc"]["AP@0.5"] is None


def test_workers_change_nothing(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs * 3)
    arguments = ("--truth", truth, "--pred", prediction, "--intervals")
    assert scored(*arguments) == scored(*arguments, "--workers", "2")


@pytest.mark.parametrize("workers", [1, 2])
def test_doubtful_predictions_count_for_average_precision_only(tmp_path, pairs, workers):
    truth, prediction = write_coco(tmp_path, pairs)
    everything = json.loads(prediction.read_text())
    limit = float(np.median([result["score"] for result in everything]))
    sure = tmp_path / "sure.json"
    sure.write_text(json.dumps([result for result in everything if result["score"] >= limit]))
    arguments = ("--truth", truth, "--protocol", "coco,kaggle,panoptic")
    found = scored(*arguments, "--pred", prediction, "--min-score", limit, "--workers", workers)["protocols"]
    whole, part = (scored(*arguments, "--pred", path)["protocols"] for path in (prediction, sure))
    assert found == {"coco": whole["coco"], "kaggle": part["kaggle"], "panoptic": part["panoptic"]}
    assert whole["kaggle"] != part["kaggle"]


def test_intervals_on_request(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    found = scored("--truth", truth, "--pred", prediction, "--protocol", "kaggle", "--intervals")
    low, high = found["intervals"]["kaggle"]["mAP@.5:.95"]
    assert low <= found["protocols"]["kaggle"]["mAP@.5:.95"] <= high
    assert "95 % interval" in run("--truth", truth, "--pred", prediction, "--protocol", "ctc", "--intervals").stdout


def test_table_on_the_terminal(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs, scores=False)
    text = run("--truth", truth, "--pred", prediction, "--protocol", "voc,kaggle").stdout
    assert text.startswith("3 images, ")
    assert "no confidence scores" in text
    assert "mAP@.5:.95" in text


def test_parameters_go_where_they_belong(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    arguments = ("--truth", truth, "--pred", prediction, "--protocol", "voc,kaggle,panoptic")
    found = scored(*arguments, "--param", "strict=false", "--param", "panoptic.strict=true", "--param", "boundary=0")
    assert [found["rules"][p]["params"]["strict"] for p in ("voc", "kaggle", "panoptic")] == [False, False, True]
    assert "boundary_f1" not in found["protocols"]["panoptic"]
    with pytest.raises(UsageError, match="no protocol asked for has a parameter 'max_detections'"):
        run(*arguments, "--param", "max_detections=3")
    with pytest.raises(UsageError, match=r"'voc\.boundary'"):
        run(*arguments, "--param", "voc.boundary=3")
    with pytest.raises(UsageError, match="does not fit"):
        run(*arguments, "--param", "strict=perhaps")
    with pytest.raises(UnknownNameError, match="did you mean"):
        run("--truth", truth, "--pred", prediction, "--protocol", "panotic")


def test_image_values_go_to_a_csv(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    run("--truth", truth, "--pred", prediction, "--per-image", tmp_path / "images.csv", "--json", tmp_path / "all.json")
    rows = list(csv.DictReader((tmp_path / "images.csv").open()))
    assert {row["image"] for row in rows} == {"img10", "img11", "img12"}
    assert {row["protocol"] for row in rows} == set(json.loads((tmp_path / "all.json").read_text())["protocols"])
    values = [float(row["value"]) for row in rows if row["metric"] == "mAP@.5:.95"]
    assert np.mean(values) == pytest.approx(
        json.loads((tmp_path / "all.json").read_text())["protocols"]["kaggle"]["mAP@.5:.95"]
    )


# -- kinds of files -------------------------------------------------------------------------------


def test_cell_tracking_folders(tmp_path, pairs):
    """Gold truth is sparse: result frames without truth are normal, and only annotated frames are scored."""
    seg = tmp_path / "01_GT" / "SEG"
    seg.mkdir(parents=True)
    for frame, (labels, _) in zip((2, 5, 11), pairs, strict=True):
        tifffile.imwrite(seg / f"man_seg{frame:03}.tif", labels)
    res = write_labels(tmp_path / "01_RES", [np.zeros((60, 80), np.uint16)] * 12, "mask{:03}.tif")
    for frame, (_, moved) in zip((2, 5, 11), pairs, strict=True):
        tifffile.imwrite(res / f"mask{frame:03}.tif", moved)
    (res / "res_track.txt").write_text("1 0 11 0\n")
    found = scored("--truth", seg, "--pred", res, "--protocol", "ctc")
    expected = score([t for t, _ in pairs], [p for _, p in pairs], ["ctc"], intervals=False).protocols["ctc"]
    assert found["n_images"] == 3
    assert found["protocols"]["ctc"] == {"SEG": expected["SEG"], "DET": expected["DET"]}
    assert scored("--truth", tmp_path / "01_GT", "--pred", res, "--protocol", "ctc") == found
    (res / "mask005.tif").unlink()
    with pytest.raises(DataError, match="no prediction for 1 of 3 images, such as man_seg005"):
        run("--truth", seg, "--pred", res)


def kaggle_text(labels, order):
    """A submission's masks of a label image: pixels counted from 1, along rows or down columns."""
    flat = labels.ravel(order="C" if order == "row" else "F")
    rows = []
    for label in np.unique(flat[flat > 0]):
        padded = np.concatenate(([0], (flat == label).astype(int), [0]))
        starts, stops = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
        rows.append(" ".join(f"{a + 1} {b - a}" for a, b in zip(starts, stops, strict=True)))
    return rows


@pytest.mark.parametrize(("columns", "order"), [("ImageId,EncodedPixels", "column"), ("id,predicted", "row")])
@pytest.mark.parametrize("said", [True, False])
def test_kaggle_submissions(tmp_path, pairs, columns, order, said):
    pairs = [*pairs, (pairs[0][0], np.zeros_like(pairs[0][0]))]
    truth = write_labels(tmp_path / "t", [t for t, _ in pairs], "x{}.tif")
    lines = [columns]
    for index, (_, moved) in enumerate(pairs):
        lines += [f"x{index},{text}" for text in kaggle_text(moved, order)] or [f"x{index},"]
    (tmp_path / "sub.csv").write_text("\n".join(lines) + "\n")
    extra = ("--rle", order) if said else ()
    found = scored("--truth", truth, "--pred", tmp_path / "sub.csv", *extra)
    expected = score([t for t, _ in pairs], [p for _, p in pairs], "all", intervals=False)
    assert found["protocols"] == {n: {r.metric: r.value for r in p.results} for n, p in expected.protocols.items()}
    wrong = scored("--truth", truth, "--pred", tmp_path / "sub.csv", "--rle", "row" if order == "column" else "column")
    assert wrong["protocols"]["kaggle"]["mAP@.5:.95"] < found["protocols"]["kaggle"]["mAP@.5:.95"]


def test_a_mask_of_many_runs_fits_into_a_kaggle_submission(tmp_path):
    """Its text is longer than what the csv module takes as it comes."""
    labels = np.zeros((400, 400), np.uint16)
    labels[::2] = 1
    (tmp_path / "truth").mkdir()
    tifffile.imwrite(tmp_path / "truth" / "x0.tif", labels)
    (text,) = kaggle_text(labels, "column")
    assert len(text) > 131_072
    (tmp_path / "sub.csv").write_text(f"ImageId,EncodedPixels\nx0,{text}\n")
    found = scored("--truth", tmp_path / "truth", "--pred", tmp_path / "sub.csv", "--protocol", "kaggle")
    assert found["protocols"]["kaggle"]["mAP@.5:.95"] == 1


def test_kaggle_submission_for_coco_truth(tmp_path, pairs):
    truth, _ = write_coco(tmp_path, pairs)
    lines = ["id,predicted"]
    for index, (_, moved) in enumerate(pairs, start=10):
        lines += [f"img{index},{text}" for text in kaggle_text(moved, "row")]
    (tmp_path / "sub.csv").write_text("\n".join(lines))
    found = scored("--truth", truth, "--pred", tmp_path / "sub.csv", "--protocol", "voc")
    assert found["protocols"]["voc"]["IoU@0.5"] > 0.5  # classes, which a submission does not know, do not matter
    assert "AP@0.5/a" not in found["protocols"]["voc"]


def test_names_that_share_the_last_number(tmp_path, pairs):
    truth = write_labels(tmp_path / "t", [t for t, _ in pairs], "cells_3_{}.tif")
    prediction = tmp_path / "p"
    prediction.mkdir()
    for index, (_, moved) in enumerate(pairs):
        Image.fromarray(moved.astype(np.uint8)).save(prediction / f"out-{index:04}.png")
    assert scored("--truth", truth, "--pred", prediction, "--protocol", "kaggle")["n_images"] == 3


def test_coco_results_for_label_images(tmp_path, pairs):
    _, prediction = write_coco(tmp_path, pairs)
    truth = write_labels(tmp_path / "t", [t for t, _ in pairs], "frame_1{}.tif")
    found = scored("--truth", truth, "--pred", prediction, "--protocol", "voc")["protocols"]["voc"]
    results = json.loads(prediction.read_text())
    sides = [[r for r in results if r["image_id"] == image] for image in (10, 11, 12)]
    predictions = [
        Instances(60, 80, [r["segmentation"]["counts"].encode() for r in side], scores=[r["score"] for r in side])
        for side in sides
    ]
    expected = score([t for t, _ in pairs], predictions, ["voc"], intervals=False).protocols["voc"]
    assert found == {r.metric: r.value for r in expected.results}


def test_polygons_uncompressed_runs_and_maps_of_annotations(tmp_path):
    square = [[10, 10, 20, 10, 20, 20, 10, 20]]
    mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(square, 40, 50)))
    other = np.zeros((40, 50), np.uint8)
    other[30:, 30:] = 1
    counts = np.diff(np.flatnonzero(np.diff(np.concatenate(([2], other.ravel("F"), [2]))))).tolist()
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 1, "segmentation": square},
        {"id": 2, "image_id": 1, "category_id": 1, "segmentation": {"size": [40, 50], "counts": counts}, "iscrowd": 1},
        {"id": 3, "image_id": 1, "category_id": 1, "segmentation": []},
    ]
    truth = {
        "images": [{"id": 1, "file_name": "a.png", "height": 40, "width": 50}],
        "categories": [{"id": 1, "name": "cell"}],
        "annotations": {str(a["id"]): a for a in annotations},
    }
    (tmp_path / "t.json").write_text(json.dumps(truth))
    (tmp_path / "p").mkdir()
    Image.fromarray(mask + 2 * other).save(tmp_path / "p" / "a.png")
    found = scored("--truth", tmp_path / "t.json", "--pred", tmp_path / "p")
    assert (found["n_truth"], found["n_pred"]) == (1, 2)
    assert found["protocols"]["kaggle"]["mAP@.5:.95"] == 1.0
    assert found["protocols"]["ctc"] == {"SEG": 1.0, "DET": 1.0}


def test_an_id_is_no_name(tmp_path, pairs):
    """Results for the id 11 belong to that image, whatever other images are called; and unknown ids to none."""
    truth, prediction = write_coco(tmp_path, pairs)
    before = scored("--truth", truth, "--pred", prediction)["protocols"]

    def rename(data):
        for image, stem in zip(data["images"], (11, 12, 77), strict=True):
            image["file_name"] = f"{stem}.png"

    edited(truth, rename)
    assert scored("--truth", truth, "--pred", prediction)["protocols"] == before

    def strangers(data):
        for result in data:
            result["image_id"] += 67

    edited(prediction, strangers)
    with pytest.raises(DataError, match="a prediction for image 77, which"):
        run("--truth", truth, "--pred", prediction)


def test_files_can_be_sent_to_another_process(tmp_path, pairs):
    import pickle

    from bench.engine.file_pairs import FilePairs

    files = FilePairs(*write_coco(tmp_path, pairs))
    sent = pickle.loads(pickle.dumps(files))
    assert np.array_equal(sent[1][1].runs.starts, files[1][1].runs.starts)


def test_no_results_at_all(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    prediction.write_text("[]")
    found = scored("--truth", truth, "--pred", prediction)["protocols"]
    assert (found["coco"]["AP"], found["voc"]["AP@0.5"], found["kaggle"]["mAP@.5:.95"]) == (0, 0, 0)


# -- bad input: one clear line with the file and the id, nothing written ----------------------------


def set_at(*path, value):
    def change(data):
        for step in path[:-1]:
            data = data[step]
        data[path[-1]] = value

    return change


BAD_TRUTH = {
    "two images have the id 10": set_at("images", 1, "id", value=10),
    "two annotations have the id 1": set_at("annotations", 1, "id", value=1),
    "annotation 4 is of image 99": set_at("annotations", 3, "image_id", value=99),
    "annotation 2 has the category 5": set_at("annotations", 1, "category_id", value=5),
    "image 11 has no height": set_at("images", 1, "height", value=0),
    r"annotation 3: its RLE is of 10 x 80 pixels, image 10 of 60 x 80": set_at(
        "annotations", 2, "segmentation", "size", value=[10, 80]
    ),
    r"annotation 3: .*illegal character": set_at("annotations", 2, "segmentation", "counts", value="~~~"),
    r"annotation 3: an RLE covers 1 pixels where": set_at("annotations", 2, "segmentation", "counts", value="1"),
    r"annotation 3: an RLE covers 7 pixels": set_at("annotations", 2, "segmentation", "counts", value=[3, 4]),
    r"annotation 3: a polygon with an odd number": set_at(
        "annotations", 2, "segmentation", value=[[1, 2, 3, 4, 5, 6, 7]]
    ),
    r"annotation 3: a polygon reaches 1500, image 10 is 60 x 80 pixels": set_at(
        "annotations", 2, "segmentation", value=[[0, 0, 9, 9, 0, -1500.0]]
    ),
    r"annotation 3: not a COCO segmentation": set_at("annotations", 2, "segmentation", value="circle"),
    r"annotation 1: a box reaches 1e\+308, its image is 60 x 80": set_at(
        "annotations", 0, "bbox", value=[0, 0, 1e308, 1]
    ),
    r"annotation 1: not a COCO box": set_at("annotations", 0, "bbox", value=[1, 2, 3]),
    "not COCO": lambda data: data.pop("images"),
    "it lists no image": lambda data: (data["images"].clear(), data["annotations"].clear()),
}


@pytest.mark.parametrize("said", BAD_TRUTH)
def test_bad_truth(tmp_path, pairs, said):
    truth, prediction = write_coco(tmp_path, pairs)
    edited(truth, BAD_TRUTH[said])
    with pytest.raises(DataError, match=rf"truth\.json: {said}"):
        run("--truth", truth, "--pred", prediction, "--json", tmp_path / "out.json", "--per-image", tmp_path / "o.csv")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json", "truth.json"]


BAD_RESULTS = {
    r"result 4 \(image 10\): its score is nan": set_at(4, "score", value=float("nan")),
    r"result 5 \(image 10\): its score is inf": set_at(5, "score", value=float("inf")),
    "result 2 has no score": lambda data: data[2].pop("score"),
    r"result 1 \(image 10\): its RLE is of 9 x 9 pixels, image 10 of 60 x 80": set_at(
        1, "segmentation", "size", value=[9, 9]
    ),
    r"result 1 \(image 10\): illegal character": set_at(1, "segmentation", "counts", value="abc~"),
    r"result 1 \(image 10\): an RLE covers": set_at(1, "segmentation", "counts", value="54"),
    r"result 1 \(image 10\) has no mask": lambda data: data[1].pop("segmentation"),
    # The COCO API's own rasteriser ends the whole program over these.
    r"result 1 \(image 10\): a polygon reaches 1e\+09": set_at(1, "segmentation", value=[[0, 0, 1e9, 0, 1e9, 1e9]]),
    r"result 1 \(image 10\): a polygon reaches 1e\+300": set_at(1, "segmentation", value=[[0, 0, 1, 0, 1, -1e300]]),
    r"result 0 \(image 10\): the truth does not list its category 99": set_at(0, "category_id", value=99),
    "a prediction for image 77, which .*truth.json does not have": set_at(0, "image_id", value=77),
    "two results have the id 8": lambda data: [data[i].update(id=8) for i in (0, 3)],
    "not COCO": set_at(0, "image_id", value=None),
}


@pytest.mark.parametrize("said", BAD_RESULTS)
def test_bad_results(tmp_path, pairs, said):
    truth, prediction = write_coco(tmp_path, pairs)
    edited(prediction, BAD_RESULTS[said])
    (tmp_path / "out.json").write_text("what was there before")
    with pytest.raises(DataError, match=rf"results\.json: {said}") as error:
        run("--truth", truth, "--pred", prediction, "--json", tmp_path / "out.json")
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3
    assert (tmp_path / "out.json").read_text() == "what was there before"


def test_json_that_is_cut_off(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    prediction.write_bytes(prediction.read_bytes()[:300])
    with pytest.raises(DataError, match=r"results\.json: not JSON"):
        run("--truth", truth, "--pred", prediction)


BAD_LABELS = {
    "the prediction has .* pixels, the truth": lambda a: a[:-1],
    "float32": lambda a: a.astype(np.float32),
    "negative label -12": lambda a: -a.astype(np.int32),
    r"shape \(60, 80, 3\)": lambda a: np.stack([a] * 3, axis=-1).astype(np.uint8),
}


@pytest.mark.parametrize("said", BAD_LABELS)
@pytest.mark.parametrize("side", ["t", "p"])
def test_bad_label_images(tmp_path, pairs, said, side):
    write_labels(tmp_path / "t", [t for t, _ in pairs], "f{}.tif")
    write_labels(tmp_path / "p", [p for _, p in pairs], "f{}.tif")
    bad = BAD_LABELS[said](np.where(pairs[1][0] > 0, pairs[1][0], 0).clip(0, 12))
    tifffile.imwrite(tmp_path / side / "f1.tif", bad, photometric="rgb" if bad.ndim == 3 else "minisblack")
    with pytest.raises(DataError, match=rf"f1\.tif: .*{said}"):
        run("--truth", tmp_path / "t", "--pred", tmp_path / "p")


def test_more_labels_than_anyone_could_mean(tmp_path):
    noise = np.arange(300 * 300, dtype=np.uint32).reshape(300, 300)
    write_labels(tmp_path / "t", [np.zeros((300, 300), np.uint8)], "f{}.tif")
    write_labels(tmp_path / "p", [noise], "f{}.tif")
    with pytest.raises(DataError, match=r"p/f0\.tif: image f0: prediction: .* 89999 labels"):
        run("--truth", tmp_path / "t", "--pred", tmp_path / "p")


def test_folders_that_are_not_about_the_same_images(tmp_path, pairs):
    truth = write_labels(tmp_path / "t", [t for t, _ in pairs], "f{}.tif")
    prediction = write_labels(tmp_path / "p", [p for _, p in pairs], "f{}.tif")
    (prediction / "f3.tif").write_bytes((prediction / "f0.tif").read_bytes())
    with pytest.raises(DataError, match=r"a prediction for image f3, which .*t does not have"):
        run("--truth", truth, "--pred", prediction)
    (prediction / "f3.tif").unlink()
    (prediction / "f2.tif").unlink()
    with pytest.raises(DataError, match="no prediction for 1 of 3 images, such as f2"):
        run("--truth", truth, "--pred", prediction)
    (prediction / "f1.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"both f1\.png and f1\.tif"):
        run("--truth", truth, "--pred", prediction)
    with pytest.raises(DataError, match="no label image in it"):
        run("--truth", truth, "--pred", _folder(tmp_path / "empty"))


def test_numbers_that_do_not_tell_images_apart(tmp_path, pairs):
    truth = write_labels(tmp_path / "t", [pairs[0][0]], "a_1.tif")
    tifffile.imwrite(truth / "b_1.tif", pairs[1][0])
    prediction = write_labels(tmp_path / "p", [p for _, p in pairs[:2]], "mask{}.tif")
    with pytest.raises(DataError, match="a_1 and b_1 end in the same number"):
        run("--truth", truth, "--pred", prediction)


def _folder(path):
    path.mkdir()
    return path


BAD_ROWS = {
    "line 3 .image x0.: 'seven'": "x0,1 2 seven 4",
    "line 3 .image x0.: an RLE of 3 numbers": "x0,1 2 3",
    "line 3 .image x0.: an RLE with a start": "x0,0 5",
    "line 3 .image x0.: an RLE reaches pixel 4801, the image has 4800": "x0,4800 2",
    "line 3 has 1 columns": "x0",
    "a prediction for image y, which": "y,1 2",
}


@pytest.mark.parametrize("said", BAD_ROWS)
def test_bad_submissions(tmp_path, pairs, said):
    truth = write_labels(tmp_path / "t", [pairs[0][0]], "x{}.tif")
    (tmp_path / "sub.csv").write_text(f"ImageId,EncodedPixels\nx0,1 3\n{BAD_ROWS[said]}\n")
    with pytest.raises(DataError, match=rf"sub\.csv: {said}"):
        run("--truth", truth, "--pred", tmp_path / "sub.csv")


def test_submission_without_its_columns(tmp_path, pairs):
    truth = write_labels(tmp_path / "t", [pairs[0][0]], "x{}.tif")
    (tmp_path / "sub.csv").write_text("name,mask\nx0,1 2\n")
    with pytest.raises(DataError, match="its columns are name, mask"):
        run("--truth", truth, "--pred", tmp_path / "sub.csv")
    with pytest.raises(UsageError, match="--rle is for a Kaggle submission"):
        run("--truth", truth, "--pred", truth, "--rle", "row")


def test_files_that_are_not_there_or_not_of_a_kind(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    with pytest.raises(DataError, match=r"gone\.json: no such file"):
        run("--truth", tmp_path / "gone.json", "--pred", prediction)
    (tmp_path / "masks.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"masks\.zip: neither a folder nor"):
        run("--truth", truth, "--pred", tmp_path / "masks.zip")


def test_output_that_cannot_be_written(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    with pytest.raises(OutputError, match=r"out\.json: cannot be written"):
        run("--truth", truth, "--pred", prediction, "--json", tmp_path / "nowhere" / "out.json")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="folder: cannot be written"):
        run("--truth", truth, "--pred", prediction, "--per-image", tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder", "results.json", "truth.json"]


def test_errors_of_workers_arrive(tmp_path, pairs):
    truth, prediction = write_coco(tmp_path, pairs)
    edited(prediction, set_at(1, "segmentation", "counts", value="abc~"))
    with pytest.raises(BenchError, match=r"results\.json: result 1 \(image 10\)"):
        run("--truth", truth, "--pred", prediction, "--workers", "2")


def test_masks_given_as_intervals_in_any_order():
    from bench.metrics.runs import from_intervals, to_rles

    rng = np.random.default_rng(0)
    stack = rng.random((5, 9, 7)) < 0.4
    stack[2] = False
    for row_major in (False, True):
        masks, starts, lengths = [], [], []
        for index, mask in enumerate(stack):
            at = np.flatnonzero(mask.ravel(order="C" if row_major else "F"))
            masks += [index] * len(at)
            starts += rng.permutation(at).tolist()
            lengths += [1] * len(at)
        runs = from_intervals(*map(np.array, (masks, starts, lengths)), 5, 9, 7, row_major=row_major)
        assert to_rles(runs) == rle.encode_masks(stack)


@pytest.mark.parametrize("side", ["truth", "pred"])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.json", None, "no such file or folder"),
        ("a.npy", b"x", "neither a folder nor a .json"),
        ("cut.json", b'{"images": [{"id": 1, "hei', "not JSON: it ends in the middle"),
        ("empty.json", b"", "not JSON: the file is empty"),
        ("number.json", b"3", "not COCO: it is a whole number where"),
        ("wide.json", '{"images": []}'.encode("utf-16"), "not JSON: it is not text in UTF-8"),
        ("noise.json", b"\x01\x02\x03", "not JSON: an unexpected character"),
    ],
)
def test_an_error_says_which_side_it_is_of_and_what_to_do(tmp_path, pairs, side, name, content, said):
    truth, prediction = write_coco(tmp_path, pairs)
    wrong = tmp_path / name
    if content is not None:
        wrong.write_bytes(content)
    given = {"truth": truth, "pred": prediction} | {side: wrong}
    with pytest.raises(DataError) as error:
        run("--truth", given["truth"], "--pred", given["pred"])
    assert error.value.message.startswith(f"--{side} {wrong}: ")
    assert said in error.value.message
    assert "Expected" not in str(error.value)
    assert error.value.hint or "where" in error.value.message


def test_an_error_within_a_folder_says_which_side_it_is_of(tmp_path, pairs):
    for side in ("truth", "pred"):
        folder = tmp_path / side
        folders = {
            "truth": write_labels(folder / "t", [t for t, _ in pairs], "f{}.tif"),
            "pred": write_labels(folder / "p", [p for _, p in pairs], "f{}.tif"),
        }
        bad = folders[side] / "f1.tif"
        bad.write_bytes(bad.read_bytes()[:40])
        with pytest.raises(DataError, match=rf"^--{side} .*f1\.tif: ") as error:
            run("--truth", folders["truth"], "--pred", folders["pred"])
        assert error.value.exit_code == 3


def test_the_own_masks_of_a_data_set_lead_to_its_export(tmp_path):
    masks, found = tmp_path / "masks", tmp_path / "found"
    masks.mkdir()
    found.mkdir()
    for name in ("a", "b"):
        Image.fromarray(np.zeros((20, 30, 4), np.uint8)).save(masks / f"{name}.png")
        tifffile.imwrite(found / f"{name}.tif", np.zeros((20, 30), np.uint16))
    said = r"\(20, 30, 4\).*bench data export CARD --format label-tiffs --to truth"
    with pytest.raises(DataError, match=said):
        run("--truth", masks, "--pred", found)
    (found / "b.tif").unlink()
    with pytest.raises(DataError, match=r"no prediction for 1 of 2 images.*bench data export CARD --split SPLIT"):
        run("--truth", masks, "--pred", found)
