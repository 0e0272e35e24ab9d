"""mmcv's operators, from wherever this environment has them.

Methods that lean on mmdet call :func:`import_mmdet` (or :func:`install`) before anything else of mmcv or mmdet.
Importing this package is cheap: torch is loaded by the calls, not by the import.
"""

from bench.ops.mmdet import import_mmdet
from bench.ops.provider import PROVIDERS, Candidate, OpsInfo, Provider, describe, install

__all__ = ["PROVIDERS", "Candidate", "OpsInfo", "Provider", "describe", "import_mmdet", "install"]
