"""STEEX (Jacob et al. 2022): the search in style codes, and the explainer around it."""

from cfexp.explainers.steex.steex import STEEX as STEEX
