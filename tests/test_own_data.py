"""Images of one's own through every stage, by one command."""

import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError
from PIL import Image

from cfexp import doctor, evaluate, explain, load_explainer, repair, train
from cfexp.data.own.data_set import OwnDataSet
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.command_line import quoted
from cfexp.run.composing import compose
from cfexp.run.library_config import composing_for_user
from cfexp.run.own_data import fill_in_from_data
from cfexp.run.stage_names import compose_stage
from tests.commands import InProcess
from tests.data.own.own_writer import COUNT, edit, write_own

SHORT = {
    "decision": '["steps=60"]',
    "autoencoder": '["steps=4",\'+requires.features.overrides=["steps=2"]\']',
    "layouts": "['+requires.segmenter.overrides=[\"steps=4\"]']",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_own(tmp_path / "set")


def command(root: Path, name: str, *more: str, stages: str = "decision") -> list[str]:
    short = [f"+requires.{stage}.overrides={SHORT[stage]}" for stage in stages.split()]
    return [
        *(f"+experiment={name}", f"data.root={root}", f"cache_dir={root.parent}/cache"),
        *("num_threads=1", "logger=csv", f"hydra.run.dir={root.parent}/run", *short, *more),
    ]


def records(root: Path) -> list[dict[str, object]]:
    return list(RunFolder(root.parent / "run").records())


def test_one_command_trains_what_is_missing_and_explains_by_regions(
    in_process: InProcess, root: Path
) -> None:
    given = command(
        root,
        "own_steex",
        *("decision.label=state", "explainer.num_steps=3", "regions=[disc]"),
        stages="decision autoencoder",
    )
    code, stdout, stderr = in_process(explain.main, *given)
    assert code == 0, stderr
    said = "\n".join([*stdout, *stderr])
    assert "28 train, 4 val, 8 test (drawn by data.split_seed=0" in said
    found = records(root)
    assert len(found) == 8
    assert {record["answer_before"] for record in found} <= {"red", "green"}
    assert all(set(record["labels"]) == {"state"} for record in found)  # type: ignore[call-overload]
    right = [record["query_class"] == record["labels"]["state"] for record in found]  # type: ignore[index]
    assert sum(right) >= 7  # red and green are told apart within 60 steps
    config = OmegaConf.load(root.parent / "run/config.yaml")
    assert OmegaConf.select(config, "data.image_size") == [32, 32]
    assert OmegaConf.select(config, "decision.class_names") == ["green", "red"]

    code, stdout, stderr = in_process(explain.main, *given)  # nothing is left to do
    assert code == 0, stderr
    edit(root / "labels.csv", "000.png,red", "000.png,green")
    code, _, stderr = in_process(explain.main, *given)
    assert (code, "data.fingerprint=" in stderr[-1]) == (2, True), stderr


def test_several_classes_are_explained_as_such(in_process: InProcess, root: Path) -> None:
    given = command(root, "own_pgd", "decision.label=size", "counter_class='2'")
    code, _, stderr = in_process(explain.main, *given, "explainer.num_steps=2")
    assert code == 0, stderr
    found = records(root)
    assert all(len(record["query_logits"]) == 3 for record in found)  # type: ignore[arg-type]
    assert {record["counter_class"] for record in found} == {2}


@pytest.mark.slow
def test_a_student_and_a_repair_of_a_model_of_several_classes(
    in_process: InProcess, root: Path
) -> None:
    given = command(root, "own_pgd", "decision.label=size")
    assert in_process(explain.main, *given)[0] == 0
    run, shared = root.parent / "run", [f"cache_dir={root.parent}/cache", "num_threads=1"]
    asked = ["student=own_student", "student_overrides=['steps=200']", *shared]
    code, stdout, stderr = in_process(evaluate.main, f"run={run}", *asked)
    assert code == 0, stderr
    assert "% of the test images as its teacher does" in "\n".join([*stdout, *stderr])
    metrics = json.loads((run / "metrics.json").read_text())["groups"]["all"]
    turned = [record["key"] for record in records(root) if record["stored_success"]]
    assert metrics["non_adversarial_rate"]["n"] == len(turned) > 0
    verdicts = root.parent / "verdicts.csv"
    verdicts.write_text("key,verdict\n" + "".join(f"{key},2\n" for key in turned))
    arguments = [f"run={run}", f"verdicts={verdicts}", *shared]
    code, stdout, stderr = in_process(repair.main, *arguments)
    assert (code, "explained every test image" in stderr[-1]) == (2, True)
    given = [each for each in given if not each.startswith("hydra.run.dir")]
    given += ["data.predict_part=val", f"hydra.run.dir={root.parent}/other"]
    assert in_process(explain.main, *given)[0] == 0
    other = root.parent / "other"
    turned = [each["key"] for each in RunFolder(other).records() if each["stored_success"]]
    verdicts.write_text("key,verdict\n" + "".join(f"{key},2\n" for key in turned))
    code, stdout, stderr = in_process(repair.main, f"run={other}", *arguments[1:])
    assert code == 0, stderr
    lines = (other / "repair" / "repaired" / "more.csv").read_text().splitlines()
    assert lines[0] == "image,label_map,0,1,2"
    assert all(line.endswith(",0,0,1") for line in lines[1:])


@pytest.mark.slow
def test_label_maps_that_are_missing_are_predicted(in_process: InProcess, root: Path) -> None:
    for k in range(0, COUNT, 2):
        (root / f"label_maps/{k:03}.png").unlink()
    given = command(
        root,
        "own_steex",
        *("decision.label=state", "explainer.num_steps=1", "data.max_test_images=2"),
        stages="decision layouts",
    )
    code, stdout, stderr = in_process(
        explain.main, *given, f"+requires.autoencoder.overrides={SHORT['autoencoder']}"
    )
    assert code == 0, stderr
    said = "\n".join([*stdout, *stderr])
    assert "20 images have no label map: it is predicted" in said
    assert len(records(root)) == 2
    # The autoencoder's label maps are these, too, by the same short training.
    for stage in ("own_segmenter", "own_layouts"):
        assert len([*(root.parent / "cache/stages").glob(f"{stage}-*")]) == 1


def test_what_is_said_of_label_maps_reaches_the_autoencoder_that_needs_them_too(
    root: Path,
) -> None:
    (root / "label_maps/000.png").unlink()
    where = [f"data.root={root}", f"cache_dir={root.parent}/cache", "decision.label=state"]
    more = "requires.layouts.overrides"

    def layouts(*given: str) -> DictConfig:
        with composing_for_user():
            config = compose("explain", ["+experiment=own_steex", *where, *given])
            fill_in_from_data(config, say=False)
            stage, _ = compose_stage(config.requires.autoencoder, config)
        return stage

    assert more not in OmegaConf.to_yaml(layouts().requires)
    short = "+requires.segmenter.overrides=['steps=4']"
    told = layouts(f"+{more}=[{quoted(short)}]")
    assert told.requires.layouts.overrides == [short]
    assert layouts(f"checkpoints.layouts={root}/a.json").checkpoints.layouts == f"{root}/a.json"
    itself = quoted(f"+{more}=['seed=3']")
    own = layouts(f"+{more}=[{quoted(short)}]", f"+requires.autoencoder.overrides=[{itself}]")
    assert own.requires.layouts.overrides == ["seed=3"]  # what is said of itself counts


@pytest.mark.parametrize("size", ["small", "medium", "paper"])
def test_what_the_perceptual_loss_sees_with_is_small_and_never_what_is_explained(
    root: Path, size: str
) -> None:
    short = "+requires.{}.overrides=['steps=4']".format
    where = [f"data.root={root}", f"cache_dir={root.parent}/cache", "decision.label=state"]
    with composing_for_user():
        of_autoencoder = f"+requires.autoencoder.overrides=[{quoted(short('features'))}]"
        given = [f"size={size}", *where, short("decision"), of_autoencoder]
        config = compose("explain", ["+experiment=own_steex", *given])
        fill_in_from_data(config, say=False)
        decision, named = compose_stage(config.requires.decision, config)
        autoencoder, _ = compose_stage(config.requires.autoencoder, config)
        features, other = compose_stage(autoencoder.requires.features, autoencoder)
    assert features.network._target_.endswith(".SmoothClassifier")
    assert (decision.steps, features.steps) == (4, 4)
    assert (decision.seed, features.seed, named == other) == (0, 1, False)


@pytest.mark.parametrize("asked", ["grid:2x2", pytest.param("whole", marks=pytest.mark.slow)])
def test_regions_are_made_where_there_are_no_label_maps(
    in_process: InProcess, tmp_path: Path, asked: str
) -> None:
    root = write_own(tmp_path / "set", maps=False)
    given = command(
        root,
        "own_steex",
        *("decision.label=state", "explainer.num_steps=1", "data.max_test_images=2"),
        f"regions={asked}",
        stages="decision autoencoder",
    )
    code, _, stderr = in_process(explain.main, *given)
    assert code == 0, stderr
    label_map = RunFolder(tmp_path / "run").label_map(0)
    assert label_map is not None
    assert int(label_map.max()) == (3 if asked == "grid:2x2" else 0)


def test_the_doctor_prints_a_table(in_process: InProcess, root: Path) -> None:
    code, stdout, _ = in_process(
        doctor.main, "data=own", f"data.root={root}", f"cache_dir={root.parent}/cache"
    )
    said = "\n".join(stdout)
    assert code == 0, said
    for word in ("40 in images/", "no label: not used", "2 classes", "source", "10 groups", "disc"):
        assert word in said or word in ("no label: not used", "2 classes"), (word, said)
    assert "decision.label=state" in said.replace("\n", " ")
    (root / "label_maps/000.png").unlink()
    Image.new("L", (32, 32), 9).save(root / "label_maps/001.png")
    code, stdout, _ = in_process(
        doctor.main, "data=own", f"data.root={root}", f"cache_dir={root.parent}/cache"
    )
    assert code == 1
    assert any("001.png: holds value 9, which is no region" in line for line in stdout)


class Threshold(torch.nn.Module):
    """A segmenter: what is redder or greener than it is blue is no ground."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        colour = images[:, :2].amax(1) - images[:, 2]
        return {"out": torch.stack([0.4 - colour, colour - 0.4], 1)[..., ::2, ::2]}


def test_a_segmenter_of_ones_own_writes_label_maps(in_process: InProcess, tmp_path: Path) -> None:
    root = write_own(tmp_path / "set", maps=False)
    torch.jit.script(Threshold()).save(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    given = [
        *("+experiment=own_layouts", "+segmenter=torchscript", "decision.label=state"),
        *(f"data.root={root}", f"cache_dir={tmp_path}/cache", f"hydra.run.dir={tmp_path}/run"),
        *("num_threads=1", f"segmenter.path={tmp_path}/model.pt"),
    ]
    code, _, stderr = in_process(train.main, *given)
    assert (code, "segmenter.value_range=[black,white]" in stderr[-1]) == (2, True), stderr
    code, _, stderr = in_process(train.main, *given, "segmenter.value_range=[0,1]")
    assert code == 0, stderr
    maps = str(tmp_path / "run/label_maps")
    data = OwnDataSet(str(root), label="state", label_maps=maps, cache_dir=str(tmp_path / "cache"))
    assert data.region_names == ("region_0", "region_1")
    batch = data.dataset("test")[0]
    inside = batch.label_map[0] == 1
    assert 100 < int(inside.sum()) < 300
    assert batch.image[0, :2, inside].amax(0).mean() > 0.3


class Redness(torch.nn.Module):
    """A classifier of one output."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 50 * (images[:, 0] - images[:, 1]).mean((1, 2))[:, None]


@pytest.mark.parametrize("labelled", [True, False])
def test_a_classifier_of_ones_own_is_explained_with_labels_or_without(
    in_process: InProcess, tmp_path: Path, labelled: bool
) -> None:
    root = write_own(tmp_path / "set", table=labelled)
    torch.jit.script(Redness()).save(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    named = ["decision.label=state", "data.classes=[green,red]"]
    code, _, stderr = in_process(
        explain.main,
        *command(root, "own_steex", "+decision=torchscript", stages="autoencoder"),
        *(f"decision.path={tmp_path}/model.pt", "decision.value_range=[0,1]"),
        *(named if labelled else ["decision.class_names=[green,red]"]),
        *("explainer.num_steps=1", "data.max_test_images=4"),
    )
    assert code == 0, stderr
    found = records(root)
    assert {record["answer_before"] for record in found} == {"green", "red"}
    assert all(("labels" in record) == labelled for record in found)


@pytest.mark.parametrize("data", ["data=own", "+experiment=own_pgd"])
def test_the_doctor_takes_a_classifiers_names_from_the_label_as_explaining_does(
    in_process: InProcess, tmp_path: Path, data: str
) -> None:
    root = write_own(tmp_path / "set", maps=False)
    torch.jit.script(Redness()).save(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    given = (data, f"data.root={root}", f"cache_dir={tmp_path}/cache", "decision.label=state")
    model = ("+decision=torchscript", f"decision.path={tmp_path}/model.pt")
    code, stdout, stderr = in_process(doctor.main, *given, *model, "decision.value_range=[0,1]")
    assert code == 0, [*stdout, *stderr]
    said = " ".join("\n".join(stdout).split())
    assert "the output below 0 is 'green', above 0 'red'" in said
    assert "(output 0," in said  # in the table


def test_size_chooses_the_networks_of_all_stages(root: Path) -> None:
    with composing_for_user():
        config = compose(
            "explain",
            ["+experiment=own_steex", f"data.root={root}", "decision.label=state", "size=medium"],
        )
        fill_in_from_data(config, say=False)
        stage, _ = compose_stage(config.requires.autoencoder, config)
        assert stage.network.base_channels == 24
        features, _ = compose_stage(stage.requires.features, stage)
        assert features.network.widths[-1] == 256
        assert features.data.image_size == [32, 32]  # the images have no more


def test_what_the_data_say_is_the_users_to_say_otherwise(root: Path) -> None:
    with composing_for_user():
        given = ["+experiment=own_pgd", f"data.root={root}", "decision.label=state"]
        config = compose("explain", [*given, "decision.below=go", "data.image_size=[48,64]"])
        fill_in_from_data(config, say=False)
        assert config.decision.below == "go"
        assert config.data.image_size == [48, 64]
        with pytest.raises(InputError, match=r"decision\.label must be given"):
            fill_in_from_data(compose("explain", given[:2]))


def test_a_classifier_of_ones_own_has_the_names_of_the_labels_classes(root: Path) -> None:
    with composing_for_user():
        given = ["+experiment=own_pgd", "+decision=torchscript", f"data.root={root}"]
        for label, names in (("size", ["0", "1", "2"]), ("state", ["green", "red"])):
            config = compose("explain", [*given, f"decision.label={label}"])
            fill_in_from_data(config, say=False)
            assert config.decision.class_names == names
        config = compose("explain", [*given, "decision.label=state", "decision.below=go"])
        fill_in_from_data(config, say=False)
        with pytest.raises(InterpolationResolutionError, match="give both below= and above="):
            OmegaConf.to_container(config.decision, resolve=True)


def test_the_library_explains_by_the_same_experiment(root: Path) -> None:
    explainer = load_explainer(
        "own_pgd",
        [
            f"data.root={root}",
            f"cache_dir={root.parent}/cache",
            "decision.label=state",
            "+requires.decision.overrides=" + SHORT["decision"],
            "explainer.num_steps=2",
            "num_threads=1",
        ],
    )
    result = explainer.explain(root / "images/000.png")
    assert result.before[0] in ("red", "green")


def test_a_segmenter_is_trained_on_those_that_have_a_label_map(
    in_process: InProcess, root: Path
) -> None:
    for k in range(0, COUNT, 4):
        (root / f"label_maps/{k:03}.png").unlink()
    code, stdout, stderr = in_process(
        train.main, *command(root, "own_segmenter", "steps=2", "decision.label=state", stages="")
    )
    assert code == 0, stderr
    assert any(line.startswith("test/mean_iou") for line in stdout)
