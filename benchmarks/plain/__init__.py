"""The plain set-ups that the figures are compared with: a loop over files, and a handler of TorchServe."""
