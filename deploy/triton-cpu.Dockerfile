# Triton for the CPU: the tritonserver of the nvidia-pytriton wheel with the project's backends.
#   docker build -f deploy/triton-cpu.Dockerfile -t unsee-triton:cpu .

ARG PYTHON_IMAGE=python:3.11-slim-bookworm
FROM ${PYTHON_IMAGE} AS wheel
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY training training
COPY evaluation evaluation
COPY export export
COPY serving serving
COPY client client
COPY model_repository/prompt_encoder model_repository/prompt_encoder
COPY model_repository/text_to_video model_repository/text_to_video
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM ${PYTHON_IMAGE}
COPY --from=wheel /wheels /wheels
RUN set -- /wheels/unsee-*.whl \
    && python -m venv /opt/unsee \
    && /opt/unsee/bin/pip install --no-cache-dir "$1[serve]" \
    && useradd --uid 10001 --no-create-home unsee
COPY deploy/start-triton-cpu.sh /usr/local/bin/start-triton
COPY deploy/alive.py /usr/local/bin/alive.py
ENV PATH=/opt/unsee/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
ENTRYPOINT ["/usr/local/bin/start-triton"]
CMD ["/repository"]
