"""How a model is trained: the loop, one update of the weights, masking, checkpoints, step log."""
