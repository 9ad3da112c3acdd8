"""What an explanation costs beside its search: bytes, files, and the time of what one process does
for all.

Stand-ins are stored as a run of 256-pixel photographs would store them: the query is a photograph,
reconstruction and counterfactual are the same at half its resolution, the label map is a mask
beside it, and the records are RUN's. Times are CPU time of one thread.
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from cfexp.evaluation.report.table import score_run
from cfexp.evaluation.run_folder import RunFolder

PICTURES = ("query", "reconstruction", "counterfactual", "label_map")


def peak() -> float:
    """The most memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_merge(records: list[dict], folder: Path, count: int) -> None:
    """Merge so many records of one process."""
    run = RunFolder(folder)
    run.explanations.mkdir(parents=True)
    lines = run.explanations / "records-0.jsonl"
    with lines.open("w", encoding="ascii") as file:
        for key in range(count):
            file.write(json.dumps({**records[key % len(records)], "key": key}) + "\n")
    print(f"a record's line: {lines.stat().st_size / count:.0f} bytes, until the end")
    before, begun = peak(), time.process_time()
    run.finish()
    took, grown = time.process_time() - begun, peak() - before
    cost = f"{1000 * took / count:.2f} ms and {1024 * grown / count:.0f} KiB"
    print(f"merge of {count} records: {cost} a record")


def measure_store(
    run: RunFolder, records: list[dict], images: Path, masks: Path, folder: Path
) -> None:
    """Store and score an explanation for each record."""
    pairs = list(zip(sorted(images.iterdir()), sorted(masks.iterdir()), strict=True))
    photos = []
    for image, mask in pairs[: len(records)]:
        query = Image.open(image).convert("RGB")
        half = query.resize((query.width // 2, query.height // 2), Image.Resampling.BICUBIC)
        blurred = half.resize(query.size, Image.Resampling.BICUBIC)
        photos.append(
            (*map(np.asarray, (query, blurred, blurred)), np.asarray(Image.open(mask).convert("L")))
        )
    stored = RunFolder(folder)
    begun = time.process_time()
    with stored.writer() as store:
        for record, photo in zip(records, photos, strict=True):
            store.add(record, dict(zip(PICTURES, photo, strict=True)))
    took = 1000 * (time.process_time() - begun) / len(records)
    print(f"stored: {took:.0f} ms, {len(PICTURES)} files an explanation")
    for name in PICTURES:
        sizes = [stored.picture(name, record["key"]).stat().st_size for record in records]
        print(f"  {name:<16}{np.mean(sizes):8.0f} bytes")
    stored.finish()
    size = run.table.stat().st_size / len(run.keys())
    print(f"  {'row of the table':<16}{size:8.0f} bytes (of {run.path.name})")
    for name in ("config.yaml", "data.json"):
        (folder / name).write_text((run.path / name).read_text())
    begun = time.process_time()
    score_run(stored)
    took = 1000 * (time.process_time() - begun) / len(records)
    print(f"scored: {took:.0f} ms an explanation of {len(records)}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, help="a finished run of STEEX, whose records are taken")
    parser.add_argument("images", type=Path, help="a folder of photographs of one size")
    parser.add_argument("masks", type=Path, help="a folder of their label maps")
    parser.add_argument("--explanations", type=int, default=24, help="stored and scored")
    parser.add_argument("--records", type=int, default=4000, help="merged")
    given = parser.parse_args()
    torch.set_num_threads(1)
    run = RunFolder(given.run)
    records = run.records()
    with tempfile.TemporaryDirectory() as temporary:
        measure_merge(records, Path(temporary) / "merge", given.records)
        measure_store(
            run, records[: given.explanations], given.images, given.masks, Path(temporary) / "store"
        )


if __name__ == "__main__":
    main()
