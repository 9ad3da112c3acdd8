"""DiVE (Rodriguez et al. 2021): the search for several explanations at once, and the explainer
around it.
"""
