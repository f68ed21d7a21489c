#!/usr/bin/env bash
# The main job on real traffic: FTP from a client network to a server network that only Postern joins, passive and
# active, through source NAT; then the same with the FTP ALG off, where active mode must fail.
# Ends 0 only if everything happened as told. Leaves nothing behind, whatever happens.
set -Eeuo pipefail
cd "$(dirname "$0")/.."

bin=$(cd "${POSTERN_BIN_DIR:-${CARGO_TARGET_DIR:-target}/release}" && pwd)
examples=docs/examples
state=/run/postern-demo # docs/examples/demo*.toml name it: socket and audit log
client=pgw-$$-c gateway=pgw-$$-g server=pgw-$$-s
files=$(mktemp -d -t postern-demo.XXXXXX)
posternd='' vsftpd=''
owns_state=false

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'; else bold='' dim='' red='' green='' plain=''; fi
step() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '  %s\n' "$*"; }
good() { printf '  %sok%s  %s\n' "$green" "$plain" "$*"; }
indent() { sed "s/^/  $dim|$plain /"; }

end_process() { # PID: ends it, waits at most 3 s, then kills it
    [ -n "$1" ] || return 0
    kill "$1" 2>/dev/null || return 0
    for _ in {1..60}; do kill -0 "$1" 2>/dev/null || return 0; sleep 0.05; done
    kill -KILL "$1" 2>/dev/null || true
}

clean_up() {
    set +e
    trap '' INT TERM
    end_process "$posternd"
    end_process "$vsftpd"
    for namespace in "$client" "$gateway" "$server"; do
        [ -e "/run/netns/$namespace" ] || continue
        ip netns pids "$namespace" | xargs -r kill -KILL 2>/dev/null
        ip netns del "$namespace"
    done
    rm -rf "$files"
    if $owns_state; then rm -rf "$state"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

wrong() { # what was expected and did not happen
    printf '\n  %sNOT AS EXPECTED:%s %s\n' "$red" "$plain" "$*" >&2
    {
        printf -- '---- posternd log\n'; tail -n 40 "$files/posternd.log"
        printf -- '---- counters\n'; control counter show
        printf -- '---- audit log\n'; tail -n 20 "$state/audit.jsonl"
        printf -- '---- FTP server log\n'; tail -n 20 "$files/vsftpd.log"
    } 2>/dev/null >&2 || true
    exit 1
}

trap 'wrong "line $LINENO: $BASH_COMMAND"' ERR

inside() { local namespace=$1; shift; ip netns exec "$namespace" "$@"; }
control() { timeout 10 "$bin/posternctl" --socket "$state/control.sock" "$@"; }
digest() { sha256sum "$1" | cut -d' ' -f1; }
wait_for() { # SECONDS WHAT COMMAND...
    local tries=$(($1 * 20)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || wrong "$what"
        sleep 0.05
    done
}

# ---------------------------------------------------------------------------------------------------- the networks

cable() { # NAMESPACE PORT: eth0 there, PORT at the gateway; checksums are computed, not left to hardware
    ip link add name eth0 netns "$1" type veth peer name "$2" netns "$gateway"
    local end
    for end in "$1 eth0" "$gateway $2"; do
        # shellcheck disable=SC2086 # two words
        set -- $end
        ip -n "$1" link set "$2" up
        inside "$1" ethtool -K "$2" tx off rx off gro off gso off tso off >/dev/null
    done
}

networks() {
    local namespace
    for namespace in "$client" "$gateway" "$server"; do
        ip netns add "$namespace"
        inside "$namespace" sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
        ip -n "$namespace" link set lo up
    done
    cable "$client" pgw0
    cable "$server" pgw1
    ip -n "$client" addr add 10.1.0.2/24 dev eth0
    ip -n "$client" route add default via 10.1.0.1
    ip -n "$server" addr add 198.51.100.2/24 dev eth0
}

# ---------------------------------------------------------------------------------------------------- the programs

listening() { inside "$server" grep -q ':0015 00000000:0000 0A' /proc/net/tcp; }

start_vsftpd() {
    chmod 755 "$files"
    mkdir -m 755 "$files/ftp" "$files/empty"
    head -c 10485760 /dev/urandom >"$files/ftp/file.bin"
    chmod 644 "$files/ftp/file.bin"
    cat >"$files/vsftpd.conf" <<CONF
listen=YES
background=NO
anonymous_enable=YES
no_anon_password=YES
local_enable=NO
anon_root=$files/ftp
pasv_min_port=40000
pasv_max_port=40100
connect_from_port_20=YES
secure_chroot_dir=$files/empty
seccomp_sandbox=NO
isolate=NO
isolate_network=NO
xferlog_enable=YES
log_ftp_protocol=YES
vsftpd_log_file=$files/vsftpd.log
CONF
    ip netns exec "$server" vsftpd "$files/vsftpd.conf" </dev/null >"$files/vsftpd.output" 2>&1 &
    vsftpd=$!
    wait_for 10 "vsftpd listens on port 21" listening
}

answers() { kill -0 "$posternd" && control status; }

start_posternd() { # CONFIGURATION
    rm -f "$state/audit.jsonl"
    ip netns exec "$gateway" "$bin/posternd" --config "$1" </dev/null >"$files/posternd.log" 2>&1 &
    posternd=$!
    wait_for 20 "posternd starts with $1" answers
}

stop_posternd() {
    local status=0 started=$SECONDS
    kill -TERM "$posternd"
    wait "$posternd" || status=$?
    posternd=''
    [ "$status" -eq 0 ] || wrong "posternd ends with 0 on SIGTERM (it ended with $status)"
    [ $((SECONDS - started)) -le 2 ] || wrong "posternd ends within 2 s of SIGTERM"
    [ ! -e "$state/control.sock" ] || wrong "posternd removes its socket"
}

# Slowly enough that the sessions can be looked at meanwhile.
fetch() { # NAME CURL-OPTIONS...
    local name=$1
    shift
    inside "$client" curl -sS -v --connect-timeout 5 --max-time 30 --limit-rate 4M "$@" \
        -o "$files/$name.bin" ftp://198.51.100.2/file.bin 2>"$files/$name.curl"
}

download() { # NAME CURL-OPTIONS...: in the background, with a look at the sessions; then the checksum
    local name=$1 transfer want got
    fetch "$@" </dev/null &
    transfer=$!
    sleep 1
    say "While it runs, \`posternctl session list\` shows:"
    control session list | indent
    wait "$transfer" || wrong "the $name download succeeds: $(tail -n 3 "$files/$name.curl")"
    want=$(digest "$files/ftp/file.bin")
    got=$(digest "$files/$name.bin")
    say "sha256 at the server  $want"
    say "sha256 at the client  $got"
    [ "$want" = "$got" ] || wrong "the $name download arrives unchanged"
    good "$name: $(stat -c %s "$files/$name.bin") bytes arrived unchanged"
}

# -------------------------------------------------------------------------------------------------- the audit log

field() { # NAME LINE: a string of a JSON object without escapes
    if [[ $2 =~ \"$1\":\"([^\"]*)\" ]]; then printf '%s' "${BASH_REMATCH[1]}"; fi
}

tell_audit() { # FIRST-LINE: the records from there on, as sentences
    local line
    while IFS= read -r line; do
        case $(field kind "$line") in
            session-open)
                say "session $(field id "$line") opens: $(field application "$line") $(field source "$line") -> $(field destination "$line"), rule \"$(field rule "$line")\""
                say "        on the other side: $(field translated_source "$line") -> $(field translated_destination "$line")"
                ;;
            alg-message)
                say "the ALG reads: $(field before "$line")"
                say "    and sends: $(field after "$line")"
                ;;
            expectation-opened)
                say "it opens a pinhole: $(field opener "$line") may connect to $(field published "$line"), which leads to $(field listener "$line")"
                ;;
            expectation-hit)
                say "the expected connection comes: session $(field child "$line"), child of $(field parent "$line"); the pinhole is closed"
                ;;
            session-close)
                say "session $(field id "$line") ends ($(field close_reason "$line"))"
                ;;
            deny)
                say "denied: $(field source "$line") -> $(field destination "$line"), rule \"$(field rule "$line")\""
                ;;
        esac
    done < <(tail -n "+$1" "$state/audit.jsonl")
}

audited() { grep -q "\"kind\":\"$1\"" "$state/audit.jsonl"; }
next_audit_line() { [ -e "$state/audit.jsonl" ] || : >"$state/audit.jsonl"; echo $(($(wc -l <"$state/audit.jsonl") + 1)); }

# --------------------------------------------------------------------------------------------------------- the story

[ "$(id -u)" -eq 0 ] || { echo "demo: network namespaces and raw sockets need root: sudo make demo" >&2; exit 1; }
for b in posternd posternctl; do
    [ -x "$bin/$b" ] || { echo "demo: $bin/$b is missing; run \`make build\`" >&2; exit 1; }
done
if [ -e "$state/pid" ] && ! kill -0 "$(cat "$state/pid")" 2>/dev/null; then
    rm -rf "$state" # of a demo that was killed
fi
mkdir -m 755 "$state" 2>/dev/null || { echo "demo: $state exists: is another demo running?" >&2; exit 1; }
owns_state=true
echo $$ >"$state/pid"

step "1. Two networks, and nothing but Postern between them"
networks
start_vsftpd
cat <<'PICTURE'

    client network                    Postern                     server network
    10.1.0.2  curl  ────────  10.1.0.1 │ 198.51.100.1  ────────  198.51.100.2  vsftpd
                              rules, NAT, the FTP ALG             knows no way back to 10.1.0.0/24

PICTURE
if inside "$client" ping -c 1 -w 1 198.51.100.2 >/dev/null; then wrong "without Postern nothing passes"; fi
good "without Postern nothing passes"
"$bin/posternd" check "$examples/demo.toml" >/dev/null || wrong "$examples/demo.toml is valid"
start_posternd "$examples/demo.toml"
say "posternd runs with $examples/demo.toml. The only rule for FTP allows the service \"ftp\": port 21."
control status | indent
inside "$client" ping -c 2 -i 0.2 -w 5 198.51.100.2 >/dev/null || wrong "ping passes"
good "ping passes through NAT"

step "2. Passive download: the server names a port, the client connects to it"
line=$(next_audit_line)
download passive --disable-epsv
wait_for 5 "the audit log has the data connection" audited expectation-hit
tell_audit "$line"

step "3. Active download: the client names its own address and port, the server connects back"
line=$(next_audit_line)
download active --ftp-port - --disable-eprt
before=$(sed -n 's/^> \(PORT [0-9,]*\).*/\1/p' "$files/active.curl" | tail -n 1)
after=$(sed -n 's/.*Client "[^"]*", "\(PORT [0-9,]*\)".*/\1/p' "$files/vsftpd.log" | tail -n 1)
say "curl sent         $before"
say "vsftpd received   $after"
case $before in "PORT 10,1,0,2,"*) ;; *) wrong "the client names its own address (it sent: $before)" ;; esac
case $after in "PORT 198,51,100,1,"*) ;; *) wrong "the server reads the translated address (it read: $after)" ;; esac
good "the ALG translated the command inside the TCP stream, and kept the stream's sequence numbers right"
wait_for 5 "the audit log has the rewritten command" grep -q "\"after\":\"$after" "$state/audit.jsonl"
tell_audit "$line"

step "4. What the gateway counted"
control counter show | indent
grep -q '"kind":"deny"' "$state/audit.jsonl" && wrong "nothing was denied so far"
stop_posternd
good "posternd ended cleanly"

step "5. The same gateway with the FTP ALG off"
start_posternd "$examples/demo-alg-off.toml"
say "posternd runs with $examples/demo-alg-off.toml: same rules, same NAT, [[alg]] mode = \"off\"."
if fetch off --ftp-port - --disable-eprt; then wrong "active mode fails without the ALG"; fi
after=$(sed -n 's/.*Client "[^"]*", "\(PORT [0-9,]*\)".*/\1/p' "$files/vsftpd.log" | tail -n 1)
reply=$(sed -n 's/^< \(5[0-9][0-9] .*\)/\1/p' "$files/off.curl" | tr -d '\r' | tail -n 1)
say "vsftpd received   $after"
say "and answered      ${reply:-nothing}"
case $after in "PORT 10,1,0,2,"*) ;; *) wrong "the command arrives untranslated (the server read: $after)" ;; esac
audited expectation-opened && wrong "no pinhole opens without the ALG"
good "active mode fails: the server was told an address that it cannot reach"
tell_audit 1
stop_posternd

step "All of it as expected."
