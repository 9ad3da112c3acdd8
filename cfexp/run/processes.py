"""What processes that train one network side by side share: their batches are one batch."""

from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import nn

from cfexp.models.batch_norm import desynchronise, synchronise


class SyncBatchNorms(TorchSyncBatchNorm):
    """Lightning's `sync_batchnorm`, on CPUs, too."""

    def apply(self, model: nn.Module) -> nn.Module:
        """To a LightningModule that has its trainer."""
        if model.trainer.strategy.root_device.type != "cpu":  # type: ignore[union-attr]
            return super().apply(model)
        synchronise(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """When the training is over."""
        desynchronise(model)
        return super().revert(model)
