"""`python -m cfexp.reconstruct +experiment=NAME`: show how well the autoencoder of a search
reconstructs images that it was not trained on.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig, open_dict

from cfexp.run.command_line import takes_paths, typed
from cfexp.run.configuration import CONFIG_PATH, one_line_errors, register_resolvers

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="reconstruct")
@one_line_errors
def main(config: DictConfig) -> None:
    """Write the picture, and say how far the reconstructions are from their images.

    Raises InputError for an experiment without an autoencoder, and for a config that cannot be run.
    """
    # Imported late: --help and a mistyped override answer at once.
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio

    from cfexp.data.label_maps.dataset import collate
    from cfexp.errors import InputError
    from cfexp.evaluation.report.gallery import region_colors
    from cfexp.evaluation.report.sheet import picture_grid
    from cfexp.run.building import build
    from cfexp.run.feasibility import refuse_sizes
    from cfexp.run.own_data import fill_in_from_data
    from cfexp.run.stages import provide_stages, use_threads

    explainer, path = config.get("explainer"), Path(config.output)
    if explainer is None or "autoencoder" not in explainer:
        raise InputError("choose a search, e.g. +experiment=steex_smile (--help lists them)")
    if type(config.num_images) is not int or config.num_images < 1:
        raise InputError(
            f"num_images must be a whole number of at least 1, got {config.num_images!r}"
        )
    if not path.parent.is_dir():
        raise InputError(f"output={path}: there is no folder {path.parent}")
    fill_in_from_data(config)
    refuse_sizes(config)
    networks = [name for name in ("autoencoder", "segmenter") if explainer.get(name) is not None]
    with open_dict(config):  # nothing else is needed, nor trained
        config.requires = {
            name: stage for name, stage in (config.requires or {}).items() if name in networks
        }
    provide_stages(config)
    use_threads(config.num_threads)
    data = build(config.data, "data")
    data.prepare_data()
    data.setup("predict")
    with open_dict(config):
        config.facts = data.facts
    dataset = data.dataset(data.predict_part)
    batch = collate(dataset.__getitems__(range(min(config.num_images, len(dataset)))))
    autoencoder, *segmenter = (
        build(explainer[name], f"explainer.{name}").eval() for name in networks
    )
    with torch.inference_mode():
        label_map = segmenter[0](batch.image).argmax(1) if segmenter else batch.label_map
        seeds = [config.seed] * len(label_map)  # of the generator's noise
        reconstruction = autoencoder(batch.image, label_map, seeds)
    picture_grid([batch.image, region_colors(label_map), reconstruction]).save(path)
    psnr = peak_signal_noise_ratio(reconstruction, batch.image, data_range=2.0, dim=(1, 2, 3))
    print(f"{len(label_map)} images, PSNR {psnr:.1f} dB: {typed(path)}")


if __name__ == "__main__":
    main()
