"""From PyTorch to ONNX: the exporter, our lowerings and rewrites, half precision, and parity."""
