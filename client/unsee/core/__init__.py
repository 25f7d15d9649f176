"""What all packages may import: errors, policies, the inputs of a request, records,
and safe file writing.

Light on purpose: nothing here imports PyTorch, ONNX, gRPC or a web framework.
"""
