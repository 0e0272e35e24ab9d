"""Colours: Okabe and Ito's palette, which colour-blind readers tell apart, on light and on dark ground."""

from __future__ import annotations

GREEN, ORANGE, SKY, YELLOW, BLUE, VERMILLION, PURPLE, GREY = (
    *("#009E73", "#E69F00", "#56B4E9", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C"),
)

SERIES = (SKY, ORANGE, GREEN, PURPLE, VERMILLION, BLUE, YELLOW, GREY)
"""Of runs and methods, in the order in which they are chosen."""
