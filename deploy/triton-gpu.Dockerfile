# Triton for NVIDIA GPUs: NGC's container with its C++ backends.
#   docker build -f deploy/triton-gpu.Dockerfile -t unsee-triton:gpu .
# 24.12 has Python 3.12, which text_to_video needs (3.11 or later; 24.10 has 3.10), and ONNX Runtime
# 1.19. numpy 2 makes the Python backend's tensors empty, so it is held back. prompt_encoder runs the
# policies' small graphs on the CPU, with an ONNX Runtime of its own.

ARG NGC_IMAGE=nvcr.io/nvidia/tritonserver:24.12-py3
FROM ${NGC_IMAGE}
RUN pip install --no-cache-dir --break-system-packages \
      "numpy==1.26.4" "onnxruntime==1.32.0" "safetensors==0.8.0" "tokenizers==0.23.3" \
    && useradd --uid 10001 --no-create-home unsee
COPY deploy/start-triton-gpu.sh /usr/local/bin/start-triton
COPY deploy/alive.py /usr/local/bin/alive.py
ENV PYTHONDONTWRITEBYTECODE=1
USER 10001
ENTRYPOINT ["/usr/local/bin/start-triton"]
CMD ["/repository"]
