"""Otsu threshold and distance watershed: a classical baseline that is not trained, the floor of every board."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from bench.api import Instances, Method, Paper, Schedule, Task, UsageError, to_gray

FEATURES = ("auto", "intensity", "variation")
OBJECTS = ("auto", "bright", "dark")


class OtsuWatershed(Method):
    """What a threshold finds: the background's slope is taken out, Otsu parts objects from it, a watershed cuts them.

    Whether objects are brighter or darker than their surroundings is read off the image: the background is the more
    uniform side of the threshold. In phase contrast and DIC, where cells are as gray as the background, how much the
    grey level varies around a pixel takes the place of the grey level.

    It knows one kind of object, so with several classes every instance is of the first.
    """

    name = "otsu_watershed"
    title = "Otsu + watershed"
    summary = "Background correction, Otsu threshold, distance watershed; not trained."
    paper = Paper(
        title="A Threshold Selection Method from Gray-Level Histograms",
        authors="N. Otsu",
        year=1979,
        venue="IEEE Transactions on Systems, Man, and Cybernetics",
    )
    origin = "baseline"
    trainable = False
    scored = False
    inits = ("none",)
    schedules: ClassVar[Mapping[str, Schedule]] = {
        "paper": Schedule(note="nothing is trained"),
        "short": Schedule(note="nothing is trained"),
        "smoke": Schedule(eval_images=6, note="nothing is trained"),
    }
    deviations = (
        "Otsu published the threshold alone: smoothing, background correction, the choice of the darker or brighter"
        " side and the watershed are our choice of common practice.",
    )

    @dataclass(frozen=True)
    class Params:
        """Settings; all of them our choice, none fitted to a data set.

        Attributes:
            feature: ``intensity``, ``variation`` (local standard deviation of the grey level, whose outlines are pared
                by the window that it is measured in), or ``auto``: variation where the data set's modality is phase
                contrast or DIC, else intensity.
            objects: ``bright`` or ``dark`` against the background, or ``auto``: decided for each image.
            smoothing: standard deviation of the Gaussian that the image is smoothed with first, pixels.
            window: standard deviation of the Gaussian within which variation is measured, pixels; 0: an eighth of
                the data set's median object, or 4 where that is unknown.
            contrast: the sides of the threshold must differ by at least so many standard deviations of the
                background, else there is no object. Noise alone reaches 2.65.
            summit_depth: how far an object's distance to background must rise above the waist between it and the next
                for the watershed to cut there, pixels; 0: 1 by intensity, the window by variation, whose outlines are
                as blurred as that.
            min_area: smaller instances are dropped, pixels.
        """

        feature: str = "auto"
        objects: str = "auto"
        smoothing: float = 1.0
        window: float = 0.0
        contrast: float = 3.0
        summit_depth: float = 0.0
        min_area: int = 20

        def __post_init__(self) -> None:
            for key, choices in (("feature", FEATURES), ("objects", OBJECTS)):
                if getattr(self, key) not in choices:
                    raise UsageError(
                        f"otsu_watershed: {key} cannot be {getattr(self, key)!r}", f"one of {', '.join(choices)}"
                    )
            for key in ("smoothing", "window", "summit_depth", "contrast"):
                if getattr(self, key) < 0:
                    raise UsageError(f"otsu_watershed: {key} must be at least 0, not {getattr(self, key)}")

    def __init__(self, task: Task, params: Any = None, device: str = "cpu") -> None:
        super().__init__(task, params, device)
        feature = self.params.feature
        if feature == "auto":
            modality = task.modality.lower()
            textured = "phase" in modality or "dic" in modality or "interference" in modality
            feature = "variation" if textured else "intensity"
        self._feature = feature
        self._window = self.params.window or (task.objects.size_median / 8 if task.objects else 4.0)
        self._depth = self.params.summit_depth or (1.0 if feature == "intensity" else self._window)

    def predict(self, image: NDArray[Any]) -> Instances:
        """The instances of one image, the largest ``task.max_detections`` of them."""
        from methods._decoders import at_most, connected_components, fill_holes, watershed_of_distance

        p = self.params
        with self.phase("preprocess"):
            levels = self._levels(image)
        with self.phase("postprocess"):
            mask = fill_holes(connected_components(self._foreground(levels), p.min_area) > 0)
            if self._feature == "variation":
                mask = pared(mask, self._window)  # a window around an outline varies, too
            labels = watershed_of_distance(mask, p.min_area, self._depth)
            return at_most(Instances.from_label_map(labels), self.task.max_detections)

    def _levels(self, image: NDArray[Any]) -> NDArray[np.float32]:
        """What is thresholded, float32 (H, W)."""
        from scipy import ndimage

        smooth = ndimage.gaussian_filter(to_gray(image), self.params.smoothing)
        if self._feature == "intensity":
            return smooth
        mean = ndimage.gaussian_filter(smooth, self._window)
        variance = ndimage.gaussian_filter((smooth - mean) ** 2, self._window)
        return np.sqrt(variance, dtype=np.float32)

    def _foreground(self, levels: NDArray[np.float32]) -> NDArray[np.bool_]:
        """The objects' side of the threshold; nothing where the two sides hardly differ."""
        nothing = np.zeros(levels.shape, np.bool_)
        background = np.ones(levels.shape, np.bool_)
        flat = levels
        # What slopes is known once the background is, and the other way round: twice is enough.
        for _ in range(2):
            flat = levels - slope(levels, background)
            parted = otsu_sides(flat)
            if parted is None:
                return nothing
            background = self._background(flat, parted)
        flat = levels - slope(levels, background)
        parted = otsu_sides(flat)
        if parted is None:
            return nothing
        background = self._background(flat, parted)
        difference = abs(float(flat[~background].mean()) - float(flat[background].mean()))
        if difference < self.params.contrast * float(flat[background].std()):
            return nothing
        return ~background

    def _background(self, flat: NDArray[np.float32], above: NDArray[np.bool_]) -> NDArray[np.bool_]:
        if self._feature == "variation" or self.params.objects == "bright":
            return ~above
        if self.params.objects == "dark":
            return above
        return ~above if flat[~above].std() <= flat[above].std() else above


def pared(mask: NDArray[np.bool_], width: float) -> NDArray[np.bool_]:
    """``mask`` (H, W) without what lies within ``width`` pixels of its outside; beyond the image there is none."""
    from scipy import ndimage

    if mask.all():
        return mask
    inner: NDArray[np.bool_] = ndimage.distance_transform_edt(mask) > width
    return inner


def otsu_sides(levels: NDArray[np.float32]) -> NDArray[np.bool_] | None:
    """Pixels above Otsu's threshold, bool (H, W); None where all pixels are alike."""
    from skimage.filters import threshold_otsu

    if float(levels.max()) - float(levels.min()) < 1e-4:  # of an image of unit deviation: rounding
        return None
    above: NDArray[np.bool_] = levels > threshold_otsu(levels)
    return above if above.any() and not above.all() else None


def slope(levels: NDArray[np.float32], background: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The background's illumination: a surface of second order in row and column, by least squares.

    Args:
        levels: (H, W).
        background: bool (H, W), the pixels that it is fitted to; at least one.

    Returns:
        float32 (H, W).
    """
    height, width = levels.shape
    step = max(1, round((height * width / 40_000) ** 0.5))  # a smooth surface needs no more pixels than that
    if not background[::step, ::step].any():
        step = 1
    rows, columns = np.linspace(-1, 1, height), np.linspace(-1, 1, width)
    r, c = (a[background[::step, ::step]] for a in np.meshgrid(rows[::step], columns[::step], indexing="ij"))
    terms = np.stack([np.ones_like(r), r, c, r * r, r * c, c * c], axis=1)
    found, *_ = np.linalg.lstsq(terms, levels[::step, ::step][background[::step, ::step]], rcond=None)
    r, c = rows[:, None], columns[None]
    surface = found[0] + found[1] * r + found[2] * c + found[3] * r * r + found[4] * r * c + found[5] * c * c
    return surface.astype(np.float32)
