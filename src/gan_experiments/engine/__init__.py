"""The training engine that all variants share: phases, weight averages, optimizers, the LightningModule."""
