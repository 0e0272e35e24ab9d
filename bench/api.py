"""What a method's author imports. It needs numpy and pycocotools, never torch.

from bench.api import Instances, Method, Paper, Schedule, Task
"""

from bench.errors import (
    BenchError,
    DataError,
    MethodError,
    MissingDependencyError,
    OutputError,
    StoreError,
    UnknownNameError,
    UsageError,
)
from bench.imaging import to_gray, to_rgb8
from bench.instances import OVERLAP_POLICIES, Instances, Sample, overlap_policy
from bench.method import (
    COMPUTE_OPTIONS,
    SCHEDULES,
    SMOKE,
    Compute,
    ControlMethod,
    FitContext,
    Method,
    Paper,
    Schedule,
)
from bench.task import DEFAULT_MAX_DETECTIONS, ObjectStatistics, SampleSource, Task

__all__ = [
    "COMPUTE_OPTIONS",
    "DEFAULT_MAX_DETECTIONS",
    "OVERLAP_POLICIES",
    "SCHEDULES",
    "SMOKE",
    "BenchError",
    "Compute",
    "ControlMethod",
    "DataError",
    "FitContext",
    "Instances",
    "Method",
    "MethodError",
    "MissingDependencyError",
    "ObjectStatistics",
    "OutputError",
    "Paper",
    "Sample",
    "SampleSource",
    "Schedule",
    "StoreError",
    "Task",
    "UnknownNameError",
    "UsageError",
    "overlap_policy",
    "to_gray",
    "to_rgb8",
]
