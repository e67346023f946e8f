"""Who computes the heavy parts of a model: PyTorch as it is or compiled, OpenVINO, Core ML."""
