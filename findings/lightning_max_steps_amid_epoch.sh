#!/usr/bin/env bash
# lightning 2.6.6 (torch 2.13.0): a training that `max_steps` ends amid an epoch, gone on with from the checkpoint of
# ModelCheckpoint(save_on_train_epoch_end=True), leaves out the rest of that epoch.
#
# Expected: the training that is gone on with takes the batches 3, 4, ... of epoch 0, or at least says that it does not.
# Seen: `on_train_epoch_end` runs though the epoch is not over, the checkpoint counts it as a whole one, and the
# training goes on with batch 0 of epoch 1; of two epochs of five batches eight are taken in place of ten, silently:
#     first: (0, 0) (0, 1) (0, 2)    then: (1, 0) (1, 1) (1, 2) (1, 3) (1, 4)
# Exits with 1 if that has changed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 lightning==2.6.6 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
import warnings

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")


class Line(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.current_epoch, batch_idx))
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train(max_steps, resume=None):
    last = ModelCheckpoint("checkpoints", "last", save_on_train_epoch_end=True, enable_version_counter=False)
    settings = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    trainer = Trainer(max_epochs=2, max_steps=max_steps, callbacks=[last], **settings)
    module = Line()
    trainer.fit(module, DataLoader(TensorDataset(torch.ones(5, 1))), ckpt_path=resume)
    return module.seen


first, then = train(3), train(-1, "checkpoints/last.ckpt")
print("first:", *first, "   then:", *then)
seen = first == [(0, 0), (0, 1), (0, 2)] and then == [(1, batch) for batch in range(5)]
sys.exit(not seen)
PYTHON
