"""ExternalMethod with real tools in real processes: what works, and everything that can go wrong."""

import gc
import os
import pickle
import stat
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from skimage import filters, measure

from bench.api import DataError, Instances, MissingDependencyError, Task, UsageError
from methods._external import ExternalMethod, ToolError

OTSU = """
    import os
    from skimage import filters, measure

    def load(options):
        print("this must not garble the answers")
        os.write(1, b"nor this\\n")
        return options

    def segment(options, image):
        gray = image if image.ndim == 2 else image[..., :3].mean(axis=2)
        labels = measure.label(gray > filters.threshold_otsu(gray))
        return (labels, [r.area for r in measure.regionprops(labels)]) if options["with_scores"] else labels
"""


@pytest.fixture
def tool(tmp_path):
    """Makes an ExternalMethod from the text of its script; every one is closed at the end."""
    made = []

    def make(script, task=None, device="cpu", **settings):
        path = tmp_path / f"tool{len(made)}.py"
        path.write_text(textwrap.dedent(script))

        class Tool(ExternalMethod):
            name = "tool"
            title = "Tool"

            @dataclass(frozen=True)
            class Params(ExternalMethod.Params):
                with_scores: bool = False

        Tool.script = path
        made.append(Tool(task or Task(), Tool.make_params("", settings), device))
        return made[-1]

    yield make
    for method in made:
        method.close()


def blobs(shape=(40, 50), dtype=np.uint8):
    image = np.zeros(shape, dtype)
    image[5:15, 5:20] = image[25:35, 30:45] = 200
    return image


def expected_of(image):
    return Instances.from_label_map(measure.label(image > filters.threshold_otsu(image)))


# -- a tool that works --------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_real_tool_in_its_own_process_answers_as_it_does_here(tool, dtype):
    image = blobs(dtype=dtype)
    image.flags.writeable = False
    method = tool(OTSU)
    assert method.unavailable() is None
    assert method.predict(image) == expected_of(image)
    colour = np.repeat(image[..., None], 3, axis=2)
    assert method.predict(colour) == expected_of(image)
    scored = tool(OTSU, with_scores=True).predict(image)
    assert scored.scores.tolist() == [150, 150]


def test_on_a_real_image(tool, shared_data):
    import tifffile

    image = tifffile.imread(shared_data / "stardist_2d" / "img2d.tif").astype(np.uint16)
    found = tool(OTSU).predict(image)
    assert found == expected_of(image)
    assert len(found) > 20


def test_one_process_serves_all_images_and_ends_with_the_method(tool):
    method = tool("""
        import os
        import numpy as np

        def segment(model, image):
            return np.full(image.shape, os.getpid(), np.int64), [float(os.getpid())]
    """)
    first, second = (int(method.predict(blobs()).scores[0]) for _ in range(2))
    assert first == second != os.getpid()
    process = psutil.Process(first)
    assert process.is_running()
    method.close()
    assert not process.is_running()
    third = int(method.predict(blobs()).scores[0])  # it begins anew
    assert third != first
    folder = Path(method._folder.name)
    last = psutil.Process(third)
    method._worker._end()
    method.close()
    assert not last.is_running()
    assert not folder.exists()


def test_a_method_that_is_forgotten_leaves_no_process(tmp_path):
    script = tmp_path / "tool.py"
    script.write_text("import os\nimport numpy as np\ndef segment(m, i): return np.ones(i.shape, int), [os.getpid()]\n")

    class Tool(ExternalMethod):
        name, title = "tool", "Tool"

    Tool.script = script
    method = Tool(Task())
    process = psutil.Process(int(method.predict(blobs()).scores[0]))
    del method
    gc.collect()
    assert not process.is_running()


def test_nothing_stays_in_the_folder_between_images(tool):
    method = tool(OTSU)
    method.predict(blobs())
    assert [path.name for path in Path(method._folder.name).iterdir()] == ["stderr.log"]


def test_the_tool_is_told_its_settings_device_and_weights(tool, tmp_path):
    weights = tmp_path / "model.bin"
    weights.write_bytes(b"\x07")
    method = tool(
        """
        import numpy as np

        def load(options):
            assert options["device"] == "cuda:1"
            assert options["timeout"] == 5.0
            return open(options["weights"], "rb").read()[0] if options["weights"] else 1

        def segment(model, image):
            return np.ones(image.shape, np.uint8), [model]
        """,
        device="cuda:1",
        timeout="5",
    )
    assert method.predict(blobs()).scores.tolist() == [1]
    method.load(weights)
    assert method.predict(blobs()).scores.tolist() == [7]


def test_masks_may_overlap_and_the_cap_of_the_task_holds(tool):
    script = """
        import numpy as np

        def segment(model, image):
            masks = np.zeros((3, *image.shape), bool)
            masks[0, :10], masks[1, 5:20], masks[2, :3] = True, True, True
            return masks
    """
    assert tool(script).predict(blobs()).areas.tolist() == [500, 750, 150]
    assert tool(script, Task(max_detections=2)).predict(blobs()).areas.tolist() == [500, 750]


@pytest.mark.parametrize("answer", ["np.zeros(image.shape, np.int32)", "np.zeros((0, *image.shape), bool)"])
def test_no_instance_is_an_answer(tool, answer):
    found = tool(f"import numpy as np\ndef segment(model, image): return {answer}").predict(blobs((1, 1)))
    assert len(found) == 0
    assert found.shape == (1, 1)


def test_a_tool_with_scores_that_finds_nothing_still_has_scores(tool):
    method = tool("import numpy as np\ndef segment(model, image): return np.zeros(image.shape, int)")
    assert method.predict(blobs()).scores is None
    type(method).scored = True
    assert method.predict(blobs()).scores.shape == (0,)


def test_phases_and_no_start_up_within_them(tool):
    import contextlib

    spent = {}

    @contextlib.contextmanager
    def clock(name):
        begun = time.perf_counter()
        yield
        spent[name] = time.perf_counter() - begun

    method = tool("""
        import time
        import numpy as np

        def load(options):
            time.sleep(1)

        def segment(model, image):
            return np.ones(image.shape, np.uint8)
    """)
    method.set_clock(clock)
    method.predict(blobs())
    assert list(spent) == ["preprocess", "network", "postprocess"]
    assert sum(spent.values()) < 0.9


# -- a tool that does not -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return np.ones((3, 4), int)", "3 x 4 pixels, the image is 40 x 50"),
        ("return np.full(image.shape, 0.5)", "must hold integers, not float64"),
        ("return np.full(image.shape, -1)", "negative label -1"),
        ("return 'nonsense'", r"must be \(H, W\)"),
        ("return None", "cannot be read|must be|must hold"),
        ("return np.ones((2, *image.shape)) * 7", "masks must be bool"),
        ("return np.ones(image.shape, int), [0.5, 0.6]", "2 scores for 1 masks"),
        ("return np.ones(image.shape, int), [float('nan')]", "not a finite number"),
        ("raise ValueError('bad pixel\\nsecond line')", "ValueError: bad pixel"),
        ("return image.no_such_method()", "AttributeError"),
    ],
)
def test_garbage_is_named_and_the_next_image_goes_on(tool, body, message):
    method = tool(f"""
        import sys
        import numpy as np

        def segment(model, image):
            if image[0, 0] == 0:
                return np.ones(image.shape, int)
            print("the tool's own complaint", file=sys.stderr)
            {body}
    """)
    with pytest.raises(ToolError, match=message) as caught:
        method.predict(blobs() + 1)
    assert "tool" in caught.value.message
    assert "\n" not in caught.value.message
    assert "the tool's own complaint" in caught.value.stderr
    assert len(method.predict(blobs())) == 1


@pytest.mark.parametrize(
    ("death", "message"),
    [
        ("sys.exit(3)", "crashed at an image .exit status 3.: going down"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "crashed at an image .signal SIGSEGV.: going down"),
        ("os._exit(0)", "crashed at an image .exit status 0.: going down"),
    ],
)
def test_a_crash_is_named_with_its_last_words_and_the_next_image_starts_it_anew(tool, death, message):
    method = tool(f"""
        import os, signal, sys
        import numpy as np

        def segment(model, image):
            if image[0, 0]:
                print("going down", file=sys.stderr, flush=True)
                {death}
            return np.ones(image.shape, int)
    """)
    with pytest.raises(ToolError, match=message) as caught:
        method.predict(blobs() + 1)
    assert caught.value.exit_code == 5
    assert pickle.loads(pickle.dumps(caught.value)).stderr == caught.value.stderr == "going down\n"
    assert len(method.predict(blobs())) == 1


def test_a_tool_that_takes_too_long_is_ended_with_all_it_has_started(tool, tmp_path):
    method = tool(
        f"""
        import subprocess, sys, time

        def segment(model, image):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
            time.sleep(600)
        """,
        timeout="1.5",
    )
    with pytest.raises(ToolError, match=r"did not finish an image within 1\.5 s"):
        method.predict(blobs())
    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the tool's child still runs"
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("import no_such_package\ndef segment(m, i): pass", "failed at loading: ModuleNotFoundError.*no_such_package"),
        ("def load(options): raise RuntimeError('no GPU')\ndef segment(m, i): pass", "failed at loading.*no GPU"),
        ("def segment(m, i: pass", "failed at loading: SyntaxError"),
        ("import time\ndef load(o): time.sleep(600)", r"did not finish loading within 1\.5 s"),
    ],
)
def test_a_tool_that_cannot_start_says_why_every_time(tool, script, message):
    method = tool(script, start_timeout="1.5" if "sleep" in script else "60")
    for _ in range(2):
        with pytest.raises(ToolError, match=message):
            method.predict(blobs())


# -- whether it is there ------------------------------------------------------------------------------


def test_what_is_missing_is_said_with_what_to_do(tool, tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    method = tool(OTSU)
    type(method).modules = ("a_module_nobody_has",)
    with pytest.raises(MissingDependencyError, match=r"no module a_module_nobody_has.*setting python"):
        method.predict(blobs())
    type(method).requirements = ("numpy==1.0",)
    assert "python -m methods._environment tool" in method.unavailable()
    elsewhere = tool(OTSU, python=str(tmp_path / "none"))
    assert "no interpreter at" in elsewhere.unavailable()
    wanting = tool(OTSU)
    type(wanting).needs_weights = True
    assert "--weights" in wanting.unavailable()


def test_this_environment_serves_where_it_has_the_modules(tool):
    method = tool(OTSU)
    type(method).modules, type(method).requirements = ("skimage", "numpy"), ("scikit-image==0.1",)
    assert method.interpreter() == Path(sys.executable)


def test_an_interpreter_can_be_given(tool, tmp_path):
    link = tmp_path / "python-of-the-tool"
    link.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    link.chmod(link.stat().st_mode | stat.S_IXUSR)
    method = tool("import sys, numpy as np\ndef segment(m, i): return np.ones(i.shape, int)", python=str(link))
    assert method.interpreter() == link
    assert len(method.predict(blobs())) == 1


@pytest.mark.parametrize("wrong", [{"timeout": "0"}, {"start_timeout": "-1"}, {"timeout": "nan"}])
def test_timeouts_must_be_positive(tool, wrong):
    with pytest.raises(UsageError, match="timeout"):
        tool(OTSU, **wrong)


# -- a command an image -------------------------------------------------------------------------------


SEGMENT = """
    import json, sys
    import numpy as np
    import tifffile
    from pathlib import Path
    from PIL import Image
    from scipy import ndimage

    given, answer = Path(sys.argv[1]), Path(sys.argv[2])
    read = {".npy": np.load, ".tif": tifffile.imread, ".png": lambda path: np.asarray(Image.open(path))}
    image = read[given.suffix](given)
    assert image.dtype == np.uint16 and image.max() == 200
    labels = ndimage.label(image > 100)[0].astype(np.uint16)
    if answer.suffix == ".npy":
        np.save(answer, labels)
    elif answer.suffix == ".tif":
        tifffile.imwrite(answer, labels)
    elif answer.suffix == ".png":
        Image.fromarray(labels).save(answer)
    else:
        from pycocotools import mask
        found = []
        for index in range(1, labels.max() + 1):
            rle = mask.encode(np.asfortranarray(labels == index, dtype=np.uint8))
            rle["counts"] = rle["counts"].decode()
            found.append({"segmentation": rle, "score": 0.5 + index / 10, "category_id": index})
        answer.write_text(json.dumps(found))
"""


def command_tool(tmp_path, script, image_format=".tif", answer_format=".tif", task=None, **settings):
    path = tmp_path / "command.py"
    path.write_text(textwrap.dedent(script))

    class Command(ExternalMethod):
        name = "command"
        title = "Command"

        def command(self, image, answer):
            return [sys.executable, path, image, answer]

    Command.image_format, Command.answer_format = image_format, answer_format
    return Command(task or Task(), Command.make_params("", settings))


@pytest.mark.parametrize(("image_format", "answer_format"), [(".tif", ".png"), (".png", ".npy"), (".npy", ".tif")])
def test_a_command_line_tool_through_label_images(tmp_path, image_format, answer_format):
    method = command_tool(tmp_path, SEGMENT, image_format, answer_format)
    image = blobs(dtype=np.uint16)
    assert method.unavailable() is None
    assert method.predict(image) == expected_of(image)
    method.close()


def test_a_command_line_tool_through_coco_results(tmp_path):
    method = command_tool(tmp_path, SEGMENT, answer_format=".json", task=Task(classes=("cell", "nucleus")))
    image = blobs(dtype=np.uint16)
    found = method.predict(image)
    assert found.rles == expected_of(image).rles
    assert found.scores.tolist() == [0.6, 0.7]
    assert found.class_ids.tolist() == [0, 1]
    method.close()


@pytest.mark.parametrize(
    ("script", "answer_format", "message"),
    [
        ("pass", ".tif", "has written no answer"),
        ("import sys; sys.exit('no licence')", ".tif", r"exit status 1\): no licence"),
        ("import time; time.sleep(600)", ".tif", "did not finish an image within 1 s"),
        ("import sys; open(sys.argv[2], 'w').write('label')", ".tif", "cannot be read as .tif"),
        ("import sys; open(sys.argv[2], 'w').write('label')", ".png", "cannot be read as .png"),
        ("import sys; open(sys.argv[2], 'w').write('label')", ".npy", "cannot be read as .npy"),
        ("import sys; open(sys.argv[2], 'w')", ".npz", "cannot be read as .npz"),
        ("import sys; open(sys.argv[2], 'w').write('{')", ".json", "is no JSON"),
        ("import sys; open(sys.argv[2], 'w').write('{}')", ".json", "not a list of COCO results"),
        ("import sys; open(sys.argv[2], 'w').write('[7]')", ".json", "result 0 is no COCO result"),
        (
            """import sys; open(sys.argv[2], 'w').write('[{"segmentation": {"size": [40, 50], "counts": "~~"}}]')""",
            ".json",
            "mask 0",
        ),
        (
            """import sys; open(sys.argv[2], 'w').write('[{"segmentation": {"size": [4, 5], "counts": "D0"}}]')""",
            ".json",
            "mask 0 is of an image of 4 x 5",
        ),
        (
            "import sys; open(sys.argv[2], 'w').write("
            """'[{"segmentation": {"size": [40, 50], "counts": "`n1"}, "category_id": 2}]')""",
            ".json",
            "category_id 2",
        ),
    ],
)
def test_what_a_command_can_do_wrong(tmp_path, script, answer_format, message):
    method = command_tool(tmp_path, script, answer_format=answer_format, timeout="1" if "sleep" in script else "60")
    with pytest.raises(ToolError, match=message) as caught:
        method.predict(blobs())
    assert "\n" not in caught.value.message
    assert not isinstance(caught.value, DataError)
    method.close()


def test_a_program_that_is_not_there(tmp_path):
    class Absent(ExternalMethod):
        name = "absent"
        title = "Absent"

        def command(self, image, answer):
            return ["a-program-nobody-has", image, answer]

    assert "no program a-program-nobody-has" in Absent(Task()).unavailable()
    with pytest.raises(MissingDependencyError):
        Absent(Task()).predict(blobs())
