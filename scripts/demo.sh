#!/usr/bin/env bash
# The demo: a private registry, a Cakework server and a real web app behind a hostname; then the same from source: an
# image built from files, another from a git server that stands in for GitHub, and the signed webhooks that tell of them.
#
#   scripts/demo.sh start    bring everything up, show it, leave it running
#   scripts/demo.sh stop     end everything and remove it, also what a failed start left
#
# All it makes lies in .demo/ of the repository (CAKEWORK_DEMO_DIR). Ports: CAKEWORK_DEMO_API_PORT (8081),
# CAKEWORK_DEMO_EDGE_PORT (8080), CAKEWORK_DEMO_REGISTRY_PORT (5055), CAKEWORK_DEMO_GIT_PORT (5056),
# CAKEWORK_DEMO_WEBHOOK_PORT (5057). CAKEWORK_DEMO_TOKEN is what the apps say.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

dir=${CAKEWORK_DEMO_DIR:-$ROOT/.demo}
# A data directory holds sockets, whose paths Linux bounds: deep in a tree it goes elsewhere.
data=$dir/data
[ ${#data} -le 68 ] || data=/var/tmp/cakework-demo-$(cksum <<<"$dir" | cut -d' ' -f1)
api_port=${CAKEWORK_DEMO_API_PORT:-8081}
edge_port=${CAKEWORK_DEMO_EDGE_PORT:-8080}
registry_port=${CAKEWORK_DEMO_REGISTRY_PORT:-5055}
git_port=${CAKEWORK_DEMO_GIT_PORT:-5056}
webhook_port=${CAKEWORK_DEMO_WEBHOOK_PORT:-5057}
cakework=${CARGO_TARGET_DIR:-$ROOT/target}/release/cakework
fixture=${CARGO_TARGET_DIR:-$ROOT/target}/release/fixture
api=http://localhost:$api_port
registry=localhost:$registry_port

# --- the pieces ---------------------------------------------------------------------------------------------------

# pids_of WORD...: processes of this demo, known by the exact words of their command line.
pids_of() {
    local file words
    for file in /proc/[0-9]*/cmdline; do
        # A process may end meanwhile.
        { mapfile -d '' -t words <"$file"; } 2>/dev/null || continue
        case "${words[*]} " in *"$* "*) file=${file#/proc/}; echo "${file%/cmdline}" ;; esac
    done
}
server_pids() { pids_of "serve --config $dir/cakework.toml --data-dir $data"; }
registry_pids() { pids_of "docker-registry serve $dir/registry.yml"; }
git_pids() { pids_of "git-server --dir $dir/git"; }
receiver_pids() { pids_of "webhook_receiver.py 127.0.0.1 $webhook_port"; }

# end_of SECONDS PID...: SIGTERM, a wait, then SIGKILL.
end_of() {
    local limit=$((SECONDS + $1)) pid
    shift
    [ $# -gt 0 ] || return 0
    kill "$@" 2>/dev/null || true
    for pid in "$@"; do
        while kill -0 "$pid" 2>/dev/null && [ "$SECONDS" -lt "$limit" ]; do sleep 0.05; done
        kill -KILL "$pid" 2>/dev/null || true
    done
}

# wait_for SECONDS WHAT COMMAND...: until the command succeeds, or the process $child is gone.
wait_for() {
    local limit=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ -z "${child:-}" ] || kill -0 "$child" 2>/dev/null || { say "$what ended at once"; return 1; }
        [ "$SECONDS" -lt "$limit" ] || { say "$what did not come in time"; return 1; }
        sleep 0.05
    done
}

# call METHOD PATH [JSON]: one call of the API. Key and body go by file and pipe: arguments are seen by everyone.
call() {
    local method=$1 path=$2 status out=$dir/answer
    status=$(printf '%s' "${3:-}" | curl -sS --max-time 60 -o "$out" -w '%{http_code}' -X "$method" \
        -H @"$dir/key-header" -H 'Content-Type: application/json' ${3:+--data-binary @-} "$api$path") || return 1
    case $status in
        2*) ;;
        *) say "$method $path answered $status: $(cat "$out")"; return 1 ;;
    esac
}
field() { jq -er ".$1" "$dir/answer"; }

# --- the steps of a start: `step` looks at their status, so each says itself where it ends ---

check_ports() {
    local name port
    for name in api:$api_port edge:$edge_port registry:$registry_port git:$git_port webhook:$webhook_port; do
        port=${name#*:}
        ! port_taken "$port" || die "port $port is in use already" \
            "stop what listens there (ss -ltnp 'sport = :$port'), or choose another: CAKEWORK_DEMO_$(tr '[:lower:]' '[:upper:]' <<<"${name%:*}")_PORT=…"
    done
}

start_registry() {
    (umask 077 && head -c 24 /dev/urandom | base64 | tr -d '/+=\n' >"$dir/registry-password")
    htpasswd -niB AWS <"$dir/registry-password" >"$dir/htpasswd" 2>/dev/null || { say "htpasswd failed"; return 1; }
    cat >"$dir/registry.yml" <<-YML
	version: 0.1
	log: { level: info }
	storage: { filesystem: { rootdirectory: "$dir/registry" } }
	http: { addr: "127.0.0.1:$registry_port", secret: "one-node" }
	auth: { htpasswd: { realm: "cakework-demo", path: "$dir/htpasswd" } }
	YML
    setsid docker-registry serve "$dir/registry.yml" </dev/null >"$dir/registry.log" 2>&1 &
    child=$! wait_for 15 "the registry" curl -s "http://$registry/v2/"
}

# push_image KIND NAME TAG
push_image() { REGISTRY_PASSWORD=$(cat "$dir/registry-password") "$fixture" push "$1" "$registry" "$2" "$3"; }

# A server that builds fetches only from public addresses, and tells only public ones: this one may use this machine's.
write_config() {
    cat >"$dir/cakework.toml" <<-TOML
	[builds]
	allow = ["127.0.0.0/8", "::1/128"]

	[git]
	base_url = "https://127.0.0.1:$git_port"
	ca_file = "$dir/git/ca.pem"

	[webhooks]
	allow = ["127.0.0.0/8", "::1/128"]
	TOML
}

start_server() {
    write_config
    setsid "$cakework" serve --config "$dir/cakework.toml" --data-dir "$data" --listen "127.0.0.1:$api_port" --edge-listen "127.0.0.1:$edge_port" \
        </dev/null >"$dir/server.out" 2>"$dir/server.log" &
    child=$! wait_for 60 "the server" server_answers || { tail -n 30 "$dir/server.log"; return 1; }
    ! grep 'no VMs:' "$dir/server.out" || return 1
    (umask 077 && "$cakework" key create --data-dir "$data" --name demo >"$dir/key" &&
        printf 'X-Api-Key: %s\n' "$(cat "$dir/key")" >"$dir/key-header")
}
server_answers() { grep -q '^ready:' "$dir/server.out"; }

import_image() {
    call POST /v1/image/import "$(jq -n --arg uri "$registry/demo/hello:v1" --rawfile password "$dir/registry-password" \
        '{imageUri: $uri, password: $password}')" || return 1
    field imageId >"$dir/image-id"
}

# start_vm [NAME]: a VM of the image that $dir/NAMEimage-id names; NAME is empty for the imported one.
start_vm() {
    local name=${1:-}
    call POST /v1/vm/start "$(jq -n --arg image "$(cat "$dir/${name}image-id")" --arg token "$token" \
        '{imageId: $image, port: 8080, envVars: {TOKEN: $token}}')" || return 1
    field id >"$dir/${name}vm-id"
    if [ "$(field state)" = created ]; then
        # The image may still be arriving.
        call GET "/v1/vm/$(cat "$dir/${name}vm-id")/wait?state=started&timeout=50" || return 1
    fi
    [ "$(field state)" = started ] || { say "the VM is $(field state): $(cat "$dir/answer")"; return 1; }
    cp "$dir/answer" "$dir/${name}vm.json"
    jq -er .hostname "$dir/${name}vm.json" >"$dir/${name}hostname"
}

# --- builds -------------------------------------------------------------------------------------------------------

# A git server with TLS and a token, and the example's files in a private repository.
start_git_server() {
    (umask 077 && head -c 24 /dev/urandom | base64 | tr -d '/+=\n' >"$dir/git-token")
    GIT_SERVER_TOKEN=$(cat "$dir/git-token") setsid "$fixture" git-server --dir "$dir/git" --port "$git_port" \
        "demo/hello=$ROOT/examples/hello" </dev/null >"$dir/git.log" 2>&1 &
    child=$! wait_for 15 "the git server" grep -q '^ready' "$dir/git.log"
}

start_receiver() {
    : >"$dir/webhook-secret"
    WEBHOOK_SECRET_FILE=$dir/webhook-secret setsid python3 "$ROOT/examples/webhook_receiver.py" 127.0.0.1 "$webhook_port" \
        </dev/null >"$dir/events" 2>"$dir/receiver.log" &
    child=$! wait_for 15 "the receiver of webhooks" port_taken "$webhook_port" || return 1
    call POST /v1/webhook "$(jq -n --arg url "http://127.0.0.1:$webhook_port/" '{url: $url, events: ["build.succeeded", "build.failed"]}')" ||
        return 1
    (umask 077 && field secret >"$dir/webhook-secret")
}

# Dockerfiles name the private registry's images: their password is the account's.
keep_credential() {
    call POST /v1/registry "$(jq -n --arg host "$registry" --rawfile password "$dir/registry-password" \
        '{host: $host, username: "AWS", password: $password}')"
}

build_from_files() {
    call POST /v1/image/build/files "$(jq -n --rawfile dockerfile "$ROOT/examples/hello/Dockerfile" --arg base "$registry/demo/python:3" \
        --rawfile main "$ROOT/examples/hello/main.py" --rawfile greeting "$ROOT/examples/hello/greeting.py" \
        '{dockerfile: $dockerfile, buildArgs: {BASE: $base},
          files: [{dir: "", name: "main.py", content: $main}, {dir: "", name: "greeting.py", content: $greeting}]}')" || return 1
    await_build files-
}

build_from_git() {
    call POST /v1/image/build/github "$(jq -n --rawfile dockerfile "$ROOT/examples/hello/Dockerfile" --arg base "$registry/demo/python:3" \
        --rawfile token "$dir/git-token" \
        '{dockerfile: $dockerfile, buildArgs: {BASE: $base}, token: $token, repository: "demo/hello", branch: "main"}')" || return 1
    await_build git-
}

# await_build NAME: polls as the contract's clients do.
await_build() {
    local build limit=$((SECONDS + 120))
    build=$(field buildId)
    echo "$build" >"$dir/$1build-id"
    while [ "$(field status)" = created ]; do
        [ "$SECONDS" -lt "$limit" ] || { say "the build takes too long: $(cat "$dir/answer")"; return 1; }
        sleep 0.2
        call GET "/v1/image/build/$build" || return 1
    done
    if [ "$(field status)" != succeeded ]; then
        cat "$dir/answer"
        call GET "/v1/image/build/$build/logs?batch=1000" && jq -r '.lines[].message' "$dir/answer"
        return 1
    fi
    field imageId >"$dir/$1image-id"
}

# The receiver prints only what is signed.
event_came() { jq -se --arg build "$(cat "$dir/$1build-id")" 'any(.[]; .buildId == $build and .imageId != null)' "$dir/events"; }
await_events() {
    local name
    for name in files- git-; do
        wait_for 20 "the webhook of a build" event_came "$name" || { cat "$dir/receiver.log"; return 1; }
    done
}

# start_built NAME: a VM of what was built, and its answer.
start_built() { start_vm "$1" && call_app "$1"; }

# curl resolves *.localhost itself (RFC 6761); --resolve is for older ones.
call_app() {
    local name=${1:-} hostname
    hostname=$(cat "$dir/${name}hostname")
    curl -sS --fail-with-body --max-time 60 --resolve "$hostname:$edge_port:127.0.0.1" "http://$hostname:$edge_port/" \
        >"$dir/${name}body" || { cat "$dir/${name}body"; return 1; }
    grep -q "token=$token" "$dir/${name}body" || { say "the app's answer lacks the token: $(cat "$dir/${name}body")"; return 1; }
}

read_logs() {
    call GET "/v1/vm/$(cat "$dir/vm-id")/logs" || return 1
    jq -e --arg token "$token" 'any(.lines[]; .message | contains("token=" + $token))' "$dir/answer" >/dev/null
}
wait_logs() { wait_for 10 "the app's log line" read_logs || { cat "$dir/answer"; return 1; }; }

# --- cached VMs ---------------------------------------------------------------------------------------------------

# cache_vm NAME PREWARM: a cached VM of the app's image.
cache_vm() {
    call POST /v1/vm/cache "$(jq -n --arg image "$(cat "$dir/image-id")" --arg token "$token" --arg prewarm "$2" \
        '{imageId: $image, port: 8080, envVars: {TOKEN: $token}, prewarm: $prewarm}')" || return 1
    field id >"$dir/$1vm-id"
    field hostname >"$dir/$1hostname"
}

an_instance_waits() {
    curl -sS --max-time 5 --unix-socket "$data/api/admin.sock" http://admin/metrics |
        grep -q '^cakework_waiting_vms{kind="paused"} [1-9]'
}
prepare_cached() { cache_vm warm- boot && wait_for 60 "the prepared instance" an_instance_waits; }

# start_cached NAME TIER: starts it, and keeps how long that took.
start_cached() {
    call POST "/v1/vm/cached/$(cat "$dir/$1vm-id")/start" || return 1
    [ "$(field start.tier)" = "$2" ] || { say "it did not start $2: $(cat "$dir/answer")"; return 1; }
    field start.durationMs >"$dir/$1ms"
    call_app "$1"
}
start_cold() { cache_vm cold- none && start_cached cold- cold; }

sleep_state() { call GET "/v1/vm/$(cat "$dir/warm-vm-id")" && jq -r '.sleep // "awake"' "$dir/answer"; }
fall_asleep() {
    call POST "/v1/vm/$(cat "$dir/warm-vm-id")/suspend" || return 1
    [ "$(sleep_state)" = paused ] || { say "it does not sleep: $(cat "$dir/answer")"; return 1; }
}
# The request that wakes it is the one that is answered.
wake_by_request() {
    local begun
    begun=$(now_ms)
    call_app warm- || return 1
    echo $(($(now_ms) - begun)) >"$dir/wake-ms"
    [ "$(sleep_state)" = awake ] || { say "it still sleeps: $(cat "$dir/answer")"; return 1; }
}

run_command() {
    call POST "/v1/vm/$(cat "$dir/warm-vm-id")/exec" '{"command": "echo $TOKEN; uname -r"}' || return 1
    grep -q "$token" "$dir/answer" || { say "the command has not the token: $(cat "$dir/answer")"; return 1; }
}

# --- start and stop -----------------------------------------------------------------------------------------------

start() {
    need_root
    local begun
    begun=$(now_ms)
    token=${CAKEWORK_DEMO_TOKEN:-$(head -c 6 /dev/urandom | od -An -tx1 | tr -d ' \n')}
    say "${BOLD}Cakework's demo${PLAIN}"
    [ -d "$dir" ] && step "ending the last demo" stop_quietly
    VERBOSE=1 step "looking at what this machine has" bash "$ROOT/scripts/setup.sh" --demo
    if [ -n "${CAKEWORK_DEMO_PREBUILT:-}" ]; then
        note "  using the binaries that are there: CAKEWORK_DEMO_PREBUILT is set"
    else
        VERBOSE=1 step "building the static release binary" bash "$ROOT/scripts/build.sh" --fixture
    fi
    check_ports
    mkdir -p "$dir"
    trap 'failed' EXIT
    step "a private registry (user AWS, a new password)" start_registry
    step "a Python web app's image, pushed to it" push_image app demo/hello v1
    step "a git server with TLS, a token and a repository" start_git_server
    step "cakework serve, and a key" start_server
    step "POST /v1/image/import" import_image
    step "POST /v1/vm/start" start_vm
    step "GET http://$(cut -c1-8 "$dir/hostname")….localhost:$edge_port/" call_app
    step "GET /v1/vm/$(cat "$dir/vm-id")/logs" wait_logs
    cp "$dir/answer" "$dir/log.json"
    step "POST /v1/vm/cache, until an instance waits" prepare_cached
    step "POST /v1/vm/cached/…/start: from that instance" start_cached warm- paused
    step "the same without one: a cold start" start_cold
    step "POST /v1/vm/…/suspend: it sleeps" fall_asleep
    step "a request to its hostname wakes it" wake_by_request
    step "POST /v1/vm/…/exec: a command in it" run_command
    step "POST /v1/webhook, and who receives it" start_receiver
    step "an image with Python, pushed to the registry" push_image python demo/python 3
    step "POST /v1/registry, for Dockerfiles that name it" keep_credential
    step "POST /v1/image/build/files, until it succeeded" build_from_files
    step "POST /v1/image/build/github, until it succeeded" build_from_git
    step "build.succeeded, signed, for both" await_events
    step "a VM of the image from files, called" start_built files-
    step "a VM of the image from git, called" start_built git-
    trap - EXIT
    report "$begun"
}

report() {
    local hostname vm
    hostname=$(cat "$dir/hostname") vm=$(cat "$dir/vm-id")
    say ""
    say "${BOLD}The app said${PLAIN}"
    sed 's/^/  /' "$dir/body"
    say "${BOLD}Its log${PLAIN}"
    jq -r '.lines[] | "  \(.timestamp / 1000 | floor | todate)  \(.level)  \(.message)"' "$dir/log.json"
    say "${BOLD}A cached VM${PLAIN}"
    say "  its process ran $(cat "$dir/warm-ms") ms after the start from an instance that waited, $(cat "$dir/cold-ms") ms after a cold one; a request to it asleep was answered after $(cat "$dir/wake-ms") ms"
    say "${BOLD}The apps that were built said${PLAIN}"
    sed 's/^/  /' "$dir/files-body" "$dir/git-body"
    say ""
    say "${GREEN}Running${PLAIN} after $((($(now_ms) - $1) / 1000)) s: VM $vm, isolation $(jq -r '.isolation // "unknown"' "$dir/vm.json")."
    say "  app   http://$hostname:$edge_port/"
    say "  cached http://$(cat "$dir/warm-hostname"):$edge_port/"
    say "  built http://$(cat "$dir/files-hostname"):$edge_port/  http://$(cat "$dir/git-hostname"):$edge_port/"
    say "  API   $api   (its description: $api/openapi.json)"
    say "  key   $(cat "$dir/key")"
    say "Try:"
    say "  curl http://$hostname:$edge_port/started"
    say "  curl -H 'X-Api-Key: $(cat "$dir/key")' $api/v1/vm/$vm/logs"
    say "  curl -H 'X-Api-Key: $(cat "$dir/key")' $api/v1/image/build/$(cat "$dir/files-build-id")/logs"
    say "  make demo-stop"
}

failed() {
    local status=$?
    [ "$status" != 0 ] || return 0
    trap - EXIT
    if [ -s "$dir/server.log" ]; then
        say "The server's last words ($dir/server.log):" >&2
        tail -n 15 "$dir/server.log" >&2
    fi
    say "The demo did not come up. What it left is ended and removed by: make demo-stop" >&2
    exit "$status"
}

stop_quietly() {
    # shellcheck disable=SC2046 # one word per process
    end_of 40 $(server_pids)
    if [ -f "$data/instance.json" ]; then
        [ -x "$cakework" ] || { say "$cakework is gone, which would end the demo's VMs: make build, then make demo-stop"; return 1; }
        "$cakework" purge --yes --data-dir "$data" || return 1
    fi
    # shellcheck disable=SC2046
    end_of 10 $(registry_pids) $(git_pids) $(receiver_pids)
    rm -rf --one-file-system "$data" "$dir"
}

stop() {
    need_root
    if [ ! -d "$dir" ] && [ -z "$(server_pids)$(registry_pids)$(git_pids)$(receiver_pids)" ]; then
        say "No demo is there."
        return
    fi
    step "ending the demo and removing $dir" stop_quietly
}

case ${1:-} in
    start | stop) "$1" ;;
    *) die "say start or stop" ;;
esac
