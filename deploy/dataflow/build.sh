#!/bin/sh
# Builds and pushes the image, and makes a template of each command:
#
#   deploy/dataflow/build.sh cpu|cu128 REGISTRY/NAME gs://BUCKET/templates [MODELS]
#
# MODELS is a folder whose models are baked in at /opt/rag-beam/models. Needs docker and gcloud, logged in.
set -eu
cd "$(dirname "$0")/../.."
torch=$1 name=$2 templates=$3 models=${4:-}
python=${PYTHON:-.venv/bin/python}
beam=$("$python" -c 'import apache_beam; print(apache_beam.__version__)')
version=$("$python" -c 'import importlib.metadata as m; print(m.version("rag-beam"))')
metadata=$(mktemp)
trap 'rm -f "$metadata"' EXIT

for command in $("$python" -m deploy.dataflow.metadata); do
    image="$name:$version-$torch-$command"
    if [ -n "$models" ]; then
        set -- --build-context "models=$models"
    else
        set -- --build-arg HF_HUB_OFFLINE=0
    fi
    docker buildx build --push -f deploy/dataflow/Dockerfile --build-arg "BEAM=$beam" --build-arg "TORCH=$torch" \
        --build-arg "COMMAND=$command" --build-arg "IMAGE=$image" "$@" -t "$image" .
    "$python" -m deploy.dataflow.metadata "$command" > "$metadata"
    gcloud dataflow flex-template build "$templates/$torch-$command.json" --image "$image" --sdk-language PYTHON \
        --metadata-file "$metadata"
done
