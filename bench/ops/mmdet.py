"""Importing mmdet with its operators in place and without its chatter."""

from __future__ import annotations

import contextlib
import importlib
import io
import warnings
from types import ModuleType

from bench.errors import MissingDependencyError
from bench.ops.provider import INSTALL_HINT, install, require


def import_mmdet() -> ModuleType:
    """Import mmdet, its modules registered and its scope the default, with mmcv's operators served.

    mmdet prints about optional data sets that are not installed and warns about other packages' deprecations; none of
    it is for a user of this harness, so it is kept off the screen. Takes seconds the first time, nothing after.

    Returns:
        the package ``mmdet``.

    Raises:
        MissingDependencyError: torch, mmengine, mmcv or mmdet is missing or broken.
    """
    install()
    require("mmengine", "mmdet")
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            package = importlib.import_module("mmdet")
            importlib.import_module("mmdet.utils").register_all_modules(init_default_scope=True)
    except (ImportError, AssertionError) as error:
        raise MissingDependencyError(f"mmdet cannot be imported: {error}", INSTALL_HINT) from error
    return package
