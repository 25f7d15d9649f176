"""From tokens to a policy's prompt embeddings; only `triton_model` calls Triton.

Runs inside Triton's Python stub, in any container that has numpy and onnxruntime: nothing here
imports torch, diffusers, transformers or the rest of Unsee.
"""
