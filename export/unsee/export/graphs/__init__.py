"""The exported graphs: names, tensors, axes and sizes, and the PyTorch modules that they wrap."""
