# Everything that an operator runs: export, unlearn, evaluate, publish, promote, and so on.
#   docker build -f deploy/operator.Dockerfile -t unsee-operator .
# For a GPU: --build-arg TORCH_INDEX=https://pypi.org/simple

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
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY --from=wheel /wheels /wheels
# The unpinned one is the wheel above.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch==2.13.0" \
    && set -- /wheels/unsee-*.whl \
    && pip install --no-cache-dir "$1[train,evaluate,export,sign]" \
    && useradd --uid 10001 --no-create-home unsee
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /work
ENTRYPOINT ["unsee"]
CMD ["--help"]
