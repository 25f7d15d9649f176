"""What a text-to-video request does on the server; only `model.py` beside it calls Triton.

Runs inside Triton's Python stub, in any container that has numpy, tokenizers and safetensors:
nothing here imports torch, diffusers, transformers or the rest of Unsee.
"""
