# The gateway and the follower: everything of a replica but Triton.
#   docker build -f deploy/gateway.Dockerfile -t unsee-gateway .

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
# The unpinned one is the wheel above.
# hadolint ignore=DL3013
RUN set -- /wheels/unsee-*.whl \
    && pip install --no-cache-dir "$1[gateway]" "safetensors==0.8.0" \
    && useradd --uid 10001 --no-create-home unsee
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
ENTRYPOINT ["unsee"]
CMD ["gateway", "--config", "/etc/unsee/gateway.yaml"]
