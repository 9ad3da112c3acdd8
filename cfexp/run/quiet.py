"""What Lightning says at every run and is no news to anybody; what else it warns of is shown."""

import logging
import warnings

from lightning.pytorch.utilities import rank_zero_only

_KNOWN = (
    ".*isinstance\\(treespec, LeafSpec\\).*",  # Lightning's own, of torch
    "Found .* module.* in eval mode",  # the networks that are explained
    "Checkpoint directory .* exists and is not empty",  # of a run that goes on
    # The discriminator's schedule goes on in the warm-up, in which its optimizer rests.
    "Detected call of `lr_scheduler.step",
    # The sampler begins where the run was stopped.
    "You're resuming from a checkpoint that ended before the epoch ended",
    # A run that goes on without max_time.
    "Be aware that when using `ckpt_path`, callbacks used to create",
    ".*does not have many workers.*",  # cached images need none
    # No harm; see trainer/ddp.yaml. What is to replace `broadcast_buffers` is newer than torch 2.6.
    ".*find_unused_parameters=True was specified",
    ".*broadcast_buffers. is deprecated",
    "It is recommended to use `self.log",  # of metrics that are gathered already
    "Total length of .* across ranks is zero",  # few queries, or all explained
    "Using `DistributedSampler` with the dataloaders",  # ours repeats none
    ".*number of training batches .* is smaller than the logging interval.*",
)


def hide_known_messages() -> None:
    """Hide these warnings, Lightning's notes, and what a process after the first would repeat."""
    if getattr(rank_zero_only, "rank", 0) > 0:  # the first of several processes says it for all
        logging.getLogger("cfexp").setLevel(logging.WARNING)
    # Lightning advertises services and repeats its settings at every start.
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
    for message in _KNOWN:
        warnings.filterwarnings("ignore", message=message)
