#!/usr/bin/env bash
# Builds the one static release binary into target/release/cakework and proves that it is static.
# With --fixture also the command that brings the demo's image to a registry, into target/release/fixture.
# CAKEWORK_BUILD_PROFILE=ci does without link-time optimisation, for CI, which has other things to do with the time.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_toolchain
cd "$ROOT"

triple=$(target_triple) profile=${CAKEWORK_BUILD_PROFILE:-release}
packages=(-p cakework)
[ "${1:-}" != --fixture ] || packages+=(-p cakework-testkit)
RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --profile "$profile" --target "$triple" "${packages[@]}" --bins

out="${CARGO_TARGET_DIR:-target}"
mkdir -p "$out/release"
for name in cakework fixture; do
    [ "$name" = cakework ] || [ "${1:-}" = --fixture ] || continue
    # A running server keeps its own file: install writes a new one.
    install -m 755 "$out/$triple/$profile/$name" "$out/release/$name"
done
# glibc's loader says so of a static file, and fails.
if ldd "$out/release/cakework" >/dev/null 2>&1 && ! ldd "$out/release/cakework" | grep -q 'statically linked'; then
    die "target/release/cakework is linked dynamically: $(ldd "$out/release/cakework" | head -n3)"
fi
say "$out/release/cakework: static, $(($(stat -c %s "$out/release/cakework") / 1024 / 1024)) MiB"
