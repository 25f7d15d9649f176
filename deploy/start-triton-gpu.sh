#!/bin/sh
# Serves the replica's repository to its own pod only. Arguments: the repository, then options.
set -eu
repository=$1
shift
for folder in "$repository"/*/; do # hidden folders are the follower's workplace
  set -- "$@" "--load-model=$(basename "$folder")"
done
exec tritonserver --model-repository="$repository" --model-control-mode=explicit \
  --disable-auto-complete-config --exit-timeout-secs=5 \
  --grpc-address=127.0.0.1 --http-address=127.0.0.1 --metrics-address=127.0.0.1 "$@"
