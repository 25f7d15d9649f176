#!/bin/sh
# Writes deploy/.env, which Compose reads: every image of others by its digest instead of a tag.
#   deploy/pin-images.sh            asks the registries, with docker buildx, which must be able to
# A digest names the very bytes that were there today; run it again to take newer ones.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)

pinned() { # VARIABLE IMAGE:TAG
  digest=$(docker buildx imagetools inspect "$2" --format '{{.Manifest.Digest}}') || {
    echo "error: the digest of $2 could not be read; is the registry reachable?" >&2
    exit 1
  }
  case $digest in
    sha256:*) echo "$1=${2%:*}@$digest # $2" ;;
    *) echo "error: the registry's answer for $2 is no digest: $digest" >&2; exit 1 ;;
  esac
}

new=$(mktemp "$folder/.env.XXXXXX")
trap 'rm -f "$new"' EXIT
{
  pinned UNSEE_PAUSE_IMAGE registry.k8s.io/pause:3.10
  pinned UNSEE_PROMETHEUS_IMAGE prom/prometheus:v3.5.0
  pinned UNSEE_GRAFANA_IMAGE grafana/grafana:12.1.0
  pinned UNSEE_PYTHON_IMAGE python:3.11-slim-bookworm
  pinned UNSEE_NGC_IMAGE nvcr.io/nvidia/tritonserver:24.12-py3
} > "$new"
[ ! -f "$folder/.env" ] || grep -v '^UNSEE_[A-Z]*_IMAGE=' "$folder/.env" >> "$new" || true
chmod 644 "$new"
mv "$new" "$folder/.env"
echo "wrote $folder/.env"
