import torch

from cfexp.benchmarks.forms import FORMS, Size, search_step
from cfexp.benchmarks.measure import measure, relative

TINY = Size(pixels=32, base_channels=2, num_regions=5, style_dim=8)


def test_the_forms_agree_in_float64_and_the_fast_one_does_least() -> None:
    measured = {form: measure(search_step(form, TINY, 2, torch.float64), 1) for form in FORMS}
    for form in FORMS[1:]:
        assert relative(measured[form].image, measured["published"].image) < 1e-9
        assert relative(measured[form].gradient, measured["published"].gradient) < 1e-9
    assert measured["fast"].gflop < measured["plain"].gflop < measured["published"].gflop
