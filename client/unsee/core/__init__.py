"""What all packages may import: errors, concepts and policies, records, and safe file writing.

Light on purpose: nothing here imports PyTorch, ONNX, gRPC or a web framework.
"""
