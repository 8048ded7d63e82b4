#!/usr/bin/env bash
# A real SLURM of one node on the loopback interface, in a scratch folder: submits a sweep as `zprune submit` writes it, waits
# until two tasks run at once, puts one back (`scontrol requeue`) and cancels one (`scancel`), submits what
# is missing once more, and holds the results against an undisturbed run. Takes about a minute.
# Installs nothing; needs slurm-wlm and munge (Debian) and root. Usage: tests/engines/slurm.sh [ZPRUNE]
set -euo pipefail
cd "$(dirname "$0")/../.."
repository=$PWD
zprune=$(realpath "${1:-target/release/zprune}")

missing=()
for program in munged slurmctld slurmd sbatch squeue scontrol scancel; do
    PATH=$PATH:/usr/sbin command -v $program >/dev/null || missing+=("$program")
done
[ ${#missing[@]} -eq 0 ] || { echo "missing: ${missing[*]} (Debian: apt-get install slurm-wlm munge)"; exit 1; }
[ "$(id -u)" -eq 0 ] || { echo "slurmd starts jobs as their user, so it needs root"; exit 1; }
export PATH=$PATH:/usr/sbin

# A blank in the path, as users have them.
scratch=$(mktemp -d)
work="$scratch/a folder"
mkdir -p "$work" "$scratch"/{state,spool,log}
pids=()
stop() {
    # Daemons in the foreground, so that their numbers are known. slurmd's jobs first.
    scancel --user root >/dev/null 2>&1 || true
    for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$scratch"
}
trap stop EXIT
fail() {
    echo "slurm: $1"
    tail -n 20 "$scratch"/log/* "$work"/results/*/submit/logs/* 2>/dev/null || true
    exit 1
}
# Waits up to a minute and a half for a command to succeed.
await() {
    local what=$1; shift
    for _ in $(seq 450); do if "$@"; then return 0; fi; sleep 0.2; done
    fail "waited in vain for $what"
}

dd if=/dev/urandom of="$scratch/munge.key" bs=1024 count=1 status=none
chmod 600 "$scratch/munge.key"
host=$(hostname -s)
port=$((20000 + RANDOM % 20000))
cat >"$scratch/slurm.conf" <<CONF
ClusterName=zprune
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
# A task that is put back starts when its old credential has expired, by default after two minutes.
AuthInfo=socket=$scratch/munge.socket,cred_expire=10
CredType=cred/munge
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmdPidFile=$scratch/slurmd.pid
# No cgroups: a container may have none to give.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0
KillWait=5
ReturnToService=2
MpiDefault=none
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$scratch/slurm.conf"
chmod 755 "$scratch"

munged --foreground --force --key-file="$scratch/munge.key" --socket="$scratch/munge.socket" \
    --pid-file="$scratch/munged.pid" --seed-file="$scratch/munge.seed" --log-file="$scratch/log/munged" \
    >/dev/null 2>"$scratch/log/munged.err" &
pids+=($!)
await "munge" test -S "$scratch/munge.socket"
slurmctld -D >"$scratch/log/slurmctld" 2>&1 & pids+=($!)
slurmd -D -N "$host" >"$scratch/log/slurmd" 2>&1 & pids+=($!)
idle() { [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ]; }
await "an idle node" idle
echo "SLURM $(sinfo --version | cut -d' ' -f2) with $(sinfo --noheader --format=%c) cores"

cp -r "$repository/models" "$repository/corpora" "$repository/tests/engines/sweep.toml" "$work"
cd "$work"
submit() { "$zprune" submit sweep.toml --engine slurm --cores 1 --time 10m --write; bash results/engines/submit/submit.sh; }

# Without --write, nothing is written.
"$zprune" submit sweep.toml --engine slurm >"$scratch/shown"
grep -q 'SBATCH --array=0-8' "$scratch/shown" || fail "the dry run shows no array of nine tasks"
test ! -e results || fail "the dry run wrote something"

submit | tail -n 1
running() { squeue --noheader --states=RUNNING --format=%i | grep _; }
two_at_once() { [ "$(running | wc -l)" -ge 2 ] && [ -e results/engines/claims ] && [ "$(ls results/engines/claims | wc -l)" -ge 2 ]; }
await "two tasks at once" two_at_once
mapfile -t tasks < <(running)
echo "running at once: ${tasks[*]}; requeue ${tasks[0]}, cancel ${tasks[1]}"
scontrol requeue "${tasks[0]}" || fail "there was nothing to put back"
scancel "${tasks[1]}" || fail "there was nothing to cancel"
empty() { [ -z "$(squeue --noheader)" ]; }
await "the end of all jobs" empty
grep -qE 'cells? run' "results/engines/submit/logs/${tasks[0]}.log" || fail "the requeued task did not come to its end"
grep -q '"event":"interrupted"' results/engines/events.jsonl || fail "no task was interrupted"
ls results/engines/tables/*.md >/dev/null 2>&1 || fail "the report job made no table"

left=$("$zprune" plan sweep.toml | grep -c '  to do  ' || true)
echo "$left cell(s) left by the cancelled task"
[ "$left" -le 1 ] || fail "more than the cancelled task's cell is left"
if [ "$left" -gt 0 ]; then
    submit | tail -n 1
    await "the end of all jobs" empty
fi
"$zprune" submit sweep.toml --engine slurm | grep -q 'nothing to submit' || fail "cells are left"
"$repository/tests/engines/compare.sh" "$zprune" sweep.toml results || fail "the results differ"
