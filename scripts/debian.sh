#!/usr/bin/env bash
# Cakework on another kind of host: a Debian 12 machine of QEMU with its stock kernel, systemd and cgroup v2. Its package is
# installed there, the main job is done, the package is upgraded under running VMs, and removed.
#
#   scripts/debian.sh [PROGRAM]    packs PROGRAM (target/release/cakework where it is not given) and runs all of it
#
# Without KVM the machine is emulated, some twenty times slower: what it shows is behaviour, never speed. What the machine
# says goes to target/package/debian.log. It has no network but its own.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
bash "$ROOT/scripts/setup.sh" --tests
cd "$ROOT"

LIMIT_SECS=1200
suite=bookworm
packages=systemd-sysv,udev,dbus,init-system-helpers,linux-image-cloud-amd64,initramfs-tools,zstd,nftables,iproute2,e2fsprogs,util-linux,ca-certificates,git,curl,jq,docker-registry,kmod,procps
program=${1:-${CARGO_TARGET_DIR:-target}/release/cakework}
fixture=${FIXTURE:-${CARGO_TARGET_DIR:-target}/release/fixture}
out="${CARGO_TARGET_DIR:-target}/package"
cache=${CAKEWORK_TEST_CACHE:-/var/cache/cakework-test}
[ -x "$program" ] || die "$program is not there" "make build"
[ -x "$fixture" ] || die "$fixture is not there" "scripts/build.sh --fixture"
mkdir -p "$out" "$cache"

work=$(mktemp -d)
registry='' machine=''
finish() {
    local pid
    for pid in $registry $machine; do kill "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap finish EXIT

# The machine's system, without anything of ours but the unit that runs what the second disk holds. Made once for each form
# of this script.
system() {
    local runsc root=$work/root

    mapfile -t lists < <(shopt -s nullglob; grep -lE "$suite" /etc/apt/sources.list /etc/apt/sources.list.d/*.{sources,list} 2>/dev/null)
    runsc=$(apt-cache madison runsc | awk '{print $3}' | grep -E '20(2[4-9]|[3-9][0-9])[0-9]{4}' | head -n1)
    [ -n "$runsc" ] || die "apt finds no runsc of 2024 or newer" "scripts/setup.sh"
    mmdebstrap --quiet --variant=minbase --format=directory --include="$packages,runsc=$runsc" \
        --customize-hook='echo cakework-test >"$1/etc/hostname"' \
        --customize-hook='printf "/dev/vda / ext4 defaults 0 1\n" >"$1/etc/fstab"' \
        --customize-hook='printf "[Match]\nName=en*\n[Network]\nDHCP=yes\n" >"$1/etc/systemd/network/10.network"' \
        --customize-hook='ln -sf /run/systemd/resolve/resolv.conf "$1/etc/resolv.conf" || true' \
        --customize-hook='copy-in deploy/debian/test/payload.service /etc/systemd/system' \
        --customize-hook='systemctl --root "$1" -q enable systemd-networkd payload.service' \
        --customize-hook='systemctl --root "$1" -q mask docker-registry.service systemd-networkd-wait-online.service serial-getty@ttyS0.service' \
        "$suite" "$root" "${lists[@]}"
    cp "$(ls "$root"/boot/vmlinuz-* | tail -n1)" "$work/vmlinuz"
    cp "$(ls "$root"/boot/initrd.img-* | tail -n1)" "$work/initrd"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/usr/share/{doc,man,locale}/*
    mke2fs -q -t ext4 -d "$root" "$work/system.ext4" 16G
    rm -rf "$root"
    mkdir "$work/made"
    mv "$work"/{vmlinuz,initrd,system.ext4} "$work/made/"
    rm -rf "$1" && cp -r --sparse=always "$work/made" "$1.new" && mv "$1.new" "$1"
}

# What the machine is given: packages, a registry's storage with an image, and what it is to do.
payload() {
    local port storage=$work/payload/registry version
    version=$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n1)
    mkdir -p "$storage"
    bash scripts/package.sh "$program"
    cp "$out/cakework_${version}_amd64.deb" "$work/payload/cakework.deb"
    # A later version of the same.
    CARGO_TARGET_DIR=$work/later bash scripts/package.sh "$program" "$version+later"
    cp "$work/later/package/cakework_$version+later_amd64.deb" "$work/payload/later.deb"
    port=$(shuf -i 20000-29999 -n1)
    while port_taken "$port"; do port=$((port + 1)); done
    printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:%s"}\n' \
        "$storage" "$port" >"$work/registry.yml"
    docker-registry serve "$work/registry.yml" >/dev/null 2>&1 &
    registry=$!
    local tries
    for tries in $(seq 100); do port_taken "$port" && break; sleep 0.1; done
    "$fixture" push busybox "localhost:$port" test/busybox v1
    kill "$registry" && wait "$registry" 2>/dev/null || true
    registry=''
    cp deploy/debian/test/main-job.sh "$work/payload/run"
    mke2fs -q -t ext4 -d "$work/payload" "$work/payload.ext4" 512M
}

hash=$(cat "$0" deploy/debian/test/payload.service | sha256sum | head -c 16)
base=$cache/debian-$suite-$hash
[ -d "$base" ] || step "a Debian 12 system with systemd" system "$base"
step "packages, and an image for its registry" payload

khz=$(awk -F: '/^cpu MHz/ {printf "%d", $2 * 1000; exit}' /proc/cpuinfo)
accel=(-accel "tcg,thread=multi,tb-size=1024" -cpu max)
append="root=/dev/vda rw console=ttyS0 panic=-1 mitigations=off random.trust_cpu=on nokaslr no_timer_check tsc_early_khz=$khz tsc=reliable systemd.show_status=false quiet"
log=$out/debian.log
: >"$log"
qemu-system-x86_64 "${accel[@]}" -M q35,usb=off,vmport=off -smp 2 -m 3072 -nodefaults -display none -no-reboot \
    -serial "file:$log" -kernel "$base/vmlinuz" -initrd "$base/initrd" -append "$append" \
    -drive "file=$base/system.ext4,if=none,id=system,format=raw,snapshot=on" -device virtio-blk-pci,drive=system \
    -drive "file=$work/payload.ext4,if=none,id=payload,format=raw,readonly=on" -device virtio-blk-pci,drive=payload \
    -netdev user,id=n,restrict=on -device virtio-net-pci,netdev=n,romfile= -device virtio-rng-pci &
machine=$!

# Its lines as they come, of those that say what was checked.
seen=0 began=$SECONDS
while kill -0 "$machine" 2>/dev/null && [ $((SECONDS - began)) -lt "$LIMIT_SECS" ]; do
    mapfile -t lines < <(tr -d '\r' <"$log" | grep -E '^(ok|not ok|done|#) ' || true)
    for line in "${lines[@]:$seen}"; do say "  $line"; done
    seen=${#lines[@]}
    sleep 2
done
mapfile -t lines < <(tr -d '\r' <"$log" | grep -E '^(ok|not ok|done|#) ' || true)
for line in "${lines[@]:$seen}"; do say "  $line"; done
said=$(printf '%s\n' "${lines[@]}")
if grep -q '^done' <<<"$said" && ! grep -q '^not ok' <<<"$said"; then
    say "$(grep -c '^ok' <<<"$said") of $(grep -c '^ok' <<<"$said") checks passed on Debian 12 with cgroup v2"
else
    tail -n 60 "$log"
    die "the main job did not pass on Debian 12; the machine's words are in $log"
fi
