"""From PyTorch to Triton: ONNX graphs with proven parity, sampler tables, the model repository.

Knows neither how a text encoder was changed nor how a server is started.
"""
