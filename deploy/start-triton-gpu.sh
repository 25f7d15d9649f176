#!/bin/sh
# Serves the replica's repository to its own pod only. Arguments: the repository, then options.
set -eu
repository=$1
shift
for folder in "$repository"/*/; do # hidden folders are the follower's workplace
  name=$(basename "$folder")
  case $name in policy_*) ;; *) set -- "$@" "--load-model=$name" ;; esac # prompt_encoder opens those
done
umask 077 # shared memory holds prompts and frames
key_file=${UNSEE_ADMIN_KEY_FILE:-${UNSEE_RUN_DIR:-$HOME/.local/state/unsee/run}/triton-8001.key}
if [ ! -s "$key_file" ]; then
  mkdir -p "$(dirname "$key_file")"
  head -c 32 /dev/urandom | base64 | tr -d '+/=\n' > "$key_file"
fi
key=$(cat "$key_file")
admin=model-repository,model-config,shared-memory,statistics,trace,logging
exec tritonserver --model-repository="$repository" --model-control-mode=explicit \
  --disable-auto-complete-config --exit-timeout-secs=5 \
  --grpc-address=127.0.0.1 --http-address=127.0.0.1 --metrics-address=127.0.0.1 \
  "--grpc-restricted-protocol=$admin:unsee-admin-key=$key" \
  "--http-restricted-api=$admin,inference:unsee-admin-key=$key" "$@"
