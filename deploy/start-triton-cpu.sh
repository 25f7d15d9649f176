#!/bin/sh
# Serves the replica's repository to its own pod only. Arguments: the repository, then options.
set -eu
repository=$1
shift
exec unsee serve --repository "$repository" --host 127.0.0.1 --log /tmp/tritonserver.log "$@"
