#!/usr/bin/env bash
# Builds many Dockerfiles with Cakework's executor and with buildah of Debian 13, both in gVisor, compares the images and
# writes docs/dockerfile-differential.md.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
bash "$ROOT/scripts/setup.sh" --tests
use_toolchain
cd "$ROOT"
cargo build --quiet --profile ci -p cakework-agent -p cakework-image --examples
UPDATE_DOCS=1 exec cargo nextest run --profile differential --cargo-profile ci -p cakework-agent \
    --run-ignored only -E 'binary(differential)'
