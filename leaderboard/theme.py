"""What verdicts and badges look like, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from bench.report.palette import GREEN, PURPLE, SKY, VERMILLION, YELLOW

VERDICTS: dict[str, tuple[str, str, str]] = {
    "right": (GREEN, "", "right (true positive)"),
    "false": (VERMILLION, "1.5 1.5", "false (false positive)"),
    "merges": (PURPLE, "9 3", "merges two or more cells"),
    "piece": (YELLOW, "7 2 1 2", "piece of a split cell"),
    "missed": (SKY, "4 3", "missed cell"),
    "merged": (PURPLE, "4 3", "cell lost in a merge"),
    "split": (YELLOW, "4 3", "cell that was split"),
    "found": (GREEN, "4 3", "found cell"),
    "truth": ("#FFFFFF", "", "annotated cell"),
}
"""Verdict on an instance to the colour of its outline, its dashes and its name in the legend.

Dashes tell verdicts apart without colours: what was predicted is solid, dotted, in long dashes or dash-dotted, what was
annotated and not found in short dashes, within the long ones where a merge took it and around dash-dotted ones where it
was split.
"""

BADGES: dict[str, tuple[str, str]] = {
    "measured": ("green", "trained, predicted and timed here"),
    "submitted": ("blue", "scored here from prediction files that somebody brought"),
    "control": ("gray", "made from the truth; bounds the scores, never ranks"),
    "paper-reported": ("violet", "printed in a paper, not measured here"),
    "synthetic": ("orange", "on generated images: says nothing about real cells"),
    "short": ("orange", "trained for less than the paper says"),
    "smoke": ("red", "shows that it runs; its numbers mean nothing"),
    "incomplete": ("red", "only a part of the images or of the training"),
    "superseded": ("gray", "a later run of the same key has replaced it"),
    "trained-on-this": ("red", "trained on images of this data set beyond its training split"),
    "demo": ("violet", "made up, to show the board"),
}
"""Badge to its colour and its meaning."""
