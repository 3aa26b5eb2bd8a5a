"""The engine of every variant: phases, averages of weights, optimizers, the LightningModule."""
