#!/usr/bin/env bash
# Kills api, agent, monitors and sandboxes in the middle of everything, and judges what came of it. Prints the kills
# by moment and role. ROUNDS (2) repeats each moment with each role as often; SEED repeats a run; ONLY names what of it
# is done, such as "agent while a cached VM wakes".
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
bash "$ROOT/scripts/setup.sh" --tests
use_toolchain
cd "$ROOT"
export CAKEWORK_CHAOS_ROUNDS="${ROUNDS:-2}"
export CAKEWORK_CHAOS_ONLY="${ONLY:-}"
[ -z "${SEED:-}" ] || export CAKEWORK_CHAOS_SEED="$SEED"
exec cargo nextest run --profile chaos --cargo-profile ci -p cakework -E 'binary(chaos)' --no-capture
