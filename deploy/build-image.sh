#!/usr/bin/env bash
# Builds the image with the first of docker, podman and buildah that works. Arguments go to the builder.
# Environment: BASE, VARIANT (cuda or cpu), PIP_OPTIONS, IMAGE, BUILDER; see deploy/Dockerfile.
set -euo pipefail
cd "$(dirname "$0")/.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
variant=${VARIANT:-cuda}
image=${IMAGE:-gradserve:$version-$variant}
arguments=(--build-arg "VARIANT=$variant" --build-arg "VERSION=$version")
arguments+=(--build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || true)")
arguments+=(--build-arg "CREATED=$(date --utc +%Y-%m-%dT%H:%M:%SZ)")
[ -z "${BASE:-}" ] || arguments+=(--build-arg "BASE=$BASE")
[ -z "${PIP_OPTIONS:-}" ] || arguments+=(--build-arg "PIP_OPTIONS=$PIP_OPTIONS")

builder=${BUILDER:-}
for candidate in docker podman buildah; do
  # A client without an engine is no builder.
  if [ -z "$builder" ] && command -v "$candidate" >/dev/null && "$candidate" info >/dev/null 2>&1; then
    builder=$candidate
  fi
done
[ -n "$builder" ] || { echo 'install docker, podman or buildah' >&2; exit 1; }

"$builder" build "${arguments[@]}" --tag "$image" --file deploy/Dockerfile "$@" .
echo "$image"
