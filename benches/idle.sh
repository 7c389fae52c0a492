#!/usr/bin/env bash
# Whether the program does nothing while nobody asks: the system calls that it makes in a minute after a scrape. None is
# right, and the exit code then 0.
#
#   benches/idle.sh                        the release build, on this machine's mounts
#   SECONDS_IDLE=600 benches/idle.sh PROGRAM --fixture DIRECTORY
#
# It is traced from its start on: attaching to a program that sleeps wakes it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

IDLE=${SECONDS_IDLE:-60}
(($# > 0)) || set -- target/release/disk-usage-exporter --rootfs=/
[[ -x $1 ]] || { echo "no $1; make it by: cargo build --release" >&2; exit 2; }

SCRATCH=$(mktemp -d)
TRACE=$SCRATCH/trace
# -D: the program is this script's child, and strace the program's.
strace -D -f -tt -o "$TRACE" "$@" --listen-host=127.0.0.1 --listen-port=0 2>"$SCRATCH/log" &
PROGRAM=$!
trap 'kill "$PROGRAM" 2>/dev/null || true; wait "$PROGRAM" 2>/dev/null || true; rm -rf "$SCRATCH"' EXIT

address=
until [[ -n $address ]]; do
    kill -0 "$PROGRAM" 2>/dev/null || { cat "$SCRATCH/log" >&2; exit 2; }
    sleep 0.1
    address=$(sed -n 's/.*"address":"\([^"]*\)".*/\1/p' "$SCRATCH/log")
done
curl --silent --fail --output "$SCRATCH/metrics" "http://$address/metrics"
volumes=$(grep -c '^pv_disk_usage_up{' "$SCRATCH/metrics" || true)

# The connection's end is still being dealt with.
before=-1
until [[ $before == $(stat -c %s "$TRACE") ]]; do
    before=$(stat -c %s "$TRACE")
    sleep 1
done
sleep "$IDLE"
tail -c "+$((before + 1))" "$TRACE" >"$SCRATCH/calls"
count=$(wc -l <"$SCRATCH/calls")
echo "$count system calls in $IDLE s, after a scrape of $volumes volumes"
cat "$SCRATCH/calls"
((count == 0))
