#!/bin/bash
# Runs inside the machine that scripts/debian.sh starts: the package, the main job, an upgrade, an end. Each line that begins
# with `ok` or `not ok` is a check; the first that fails ends it.
set -uo pipefail
export PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive
api=http://localhost:8081

ok() { echo "ok $((SECONDS)) s: $*"; }
fail() {
    echo "not ok $((SECONDS)) s: $*"
    cat /tmp/said 2>/dev/null
    journalctl --no-pager -o cat -u cakework -n 60
    exit 1
}
# check WHAT COMMAND...
check() {
    local what=$1
    shift
    "$@" >/tmp/said 2>&1 || fail "$what"
    ok "$what"
}
# within SECONDS COMMAND...: until it succeeds
within() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 1
    done
}
cake() { curl -sS --max-time 120 -H "X-Api-Key: $KEY" -H 'Content-Type: application/json' "$@"; }
is() { [ "$(cake "$api$1" | tee /tmp/said | jq -r "$2")" = "$3" ]; }
page() { curl -sS --max-time 60 "$(cake "$api/v1/vm/$1" | jq -r .url)"; }
start() {
    cake "$api/v1/vm/start" -d "$(jq -n --arg image "$IMAGE" --arg script "$1" \
        '{imageId: $image, cpu: 1, memory: 256, port: 8080, command: ["sh", "-c", $script]}')" | tee /tmp/said | jq -er .id
}
held() {
    ip netns list | grep '^cw'
    nft list tables | grep cw
    grep /var/lib/cakework /proc/mounts
    losetup -a | grep /var/lib/cakework
    find /sys/fs/cgroup -maxdepth 3 -type d -name 'cakework-*'
    pgrep -fa 'runsc|cakework (agent|monitor|api|serve)'
}

echo "# $(uname -r), $(. /etc/os-release && echo "$PRETTY_NAME"), systemd $(systemctl --version | awk 'NR==1{print $2}')"
check "the control groups are version 2 alone" test "$(stat -fc %T /sys/fs/cgroup)" = cgroup2fs
check "the package is installed, by apt and without a network" apt-get install -y /payload/cakework.deb
check "systemd has started it and was told that it is ready" within 120 systemctl is-active --quiet cakework
check "no key is in the journal" eval '! journalctl -u cakework | grep -q "cw_"'
check "the API and its database are the system user's" test "$(stat -c %U /var/lib/cakework/api)" = cakework
check "doctor finds nothing that is missing" cakework doctor
cp /tmp/said /tmp/doctor
docker-registry serve <(printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: /payload/registry}}\nhttp: {addr: "127.0.0.1:5000"}\n') >/dev/null 2>&1 &
KEY=$(cakework key create --name test) || fail "a key is made"
within 60 curl -sf -o /dev/null http://127.0.0.1:5000/v2/ || fail "the registry runs"
IMAGE=$(cake $api/v1/image/import -d '{"imageUri": "localhost:5000/test/busybox:v1"}' | tee /tmp/said | jq -er .imageId) ||
    fail "an image is imported"
check "the image's layers are there" within 120 is "/v1/image/$IMAGE" .state ready

VM=$(start 'mkdir /tmp/w; head -c 8 /dev/urandom | md5sum >/tmp/w/index.html; echo hello from $(uname -s); httpd -f -p 8080 -h /tmp/w') ||
    fail "a VM is started"
check "the VM runs" within 120 is "/v1/vm/$VM" .state started
check "its isolation is named" is "/v1/vm/$VM" .isolation gvisor
check "its app answers at its hostname" within 120 eval 'page $VM >/tmp/page && grep -q " -" /tmp/page'
check "its line is in its log" within 60 eval 'cake "$api/v1/vm/$VM/logs" | grep -q "hello from Linux"'
group=$(find /sys/fs/cgroup -type d -name "$VM" | head -n1)
echo "# $group: memory.max $(cat "$group/memory.max"), memory.swap.max $(cat "$group/memory.swap.max"), cpu.max $(cat "$group/cpu.max")"
check "its memory is limited by the kernel, without swap" \
    eval 'test "$(cat "$group/memory.max")" -ge 268435456 && test "$(cat "$group/memory.swap.max")" = 0'
check "its CPU time is limited by the kernel" test "$(cat "$group/cpu.max")" = "100000 100000"

GREEDY=$(start 'sleep 2; dd if=/dev/zero of=/dev/null bs=1G count=1') || fail "a greedy VM is started"
check "what takes more memory than it may is ended, and that is why" \
    within 240 is "/v1/vm/$GREEDY" '.state + " " + .exit.reason' "destroyed oom"

BUILD=$(cake $api/v1/image/build/files -d "{\"dockerfile\": \"FROM cakework/$IMAGE\nRUN echo built > /built\", \"files\": []}" |
    tee /tmp/said | jq -er .buildId) || fail "a build is taken on"
check "a Dockerfile with a RUN is built" within 240 is "/v1/image/build/$BUILD" .status succeeded

CACHED=$(cake $api/v1/vm/cache -d "{\"imageId\": \"$IMAGE\", \"cpu\": 1, \"memory\": 256, \"port\": 8080,
    \"command\": [\"sh\", \"-c\", \"mkdir /tmp/w; echo cached >/tmp/w/index.html; httpd -f -p 8080 -h /tmp/w\"]}" |
    tee /tmp/said | jq -er .id) || fail "a VM is cached"
check "a request starts a cached VM" within 240 eval 'page $CACHED | tee /tmp/said | grep -q cached'
check "how its run started is said" eval 'cake $api/v1/vm/$CACHED | jq -er .start.tier'
echo "# its tier: $(cake $api/v1/vm/$CACHED | jq -r .start.tier)"

before=$(page "$VM")
pid=$(systemctl show -p MainPID --value cakework)
check "the package is upgraded" apt-get install -y /payload/later.deb
check "the server is another process" test "$(systemctl show -p MainPID --value cakework)" != "$pid"
check "the VM ran on over the upgrade" test "$(page "$VM")" = "$before"
check "the VM ran on when the server was killed" \
    eval 'kill -KILL $(systemctl show -p MainPID --value cakework); within 120 is "/v1/vm/$VM" .state started && test "$(page "$VM")" = "$before"'
check "systemd has started it again" within 60 systemctl is-active --quiet cakework
check "the VM is stopped" within 60 eval 'cake -X POST "$api/v1/vm/$VM/stop" -o /dev/null -w "%{http_code}" | grep -q 204'
check "why it ended is said" within 60 is "/v1/vm/$VM" '.state + " " + .exit.reason' "destroyed stopped"

check "until here the host holds something of it" held
check "the package is removed" apt-get remove -y cakework
check "nothing of it is left on the host" eval '! held'
check "its data is kept" test -s /var/lib/cakework/api/cakework.db
check "the package is purged" apt-get purge -y cakework
check "its data is gone" test ! -e /var/lib/cakework
echo "done $SECONDS s"
