"""What a text-to-video request does on the server; knows Triton only through `model.py` beside it.

Runs inside Triton's Python stub, in any container that has numpy, tokenizers and safetensors:
nothing here imports torch, diffusers, transformers or the rest of Unsee.
"""
