#!/usr/bin/env bash
# firn's main job, for real, in a temporary folder: `make demo` runs it, `make demo STORE=s3` with an S3 server.
#
# A live PostgreSQL on a firn volume is snapshotted under load, sent to a vault as a baseline and then as increments,
# lost together with its pool, and restored from the vault into a new pool, where it must be what it was at the
# snapshot. FIRN names the program, SCALE is pgbench's (a unit is about 16 MB of database).
set -euo pipefail

here=$(dirname -- "$(realpath -- "$0")")
firn=$(realpath -- "${FIRN:-target/release/firn}")
store=${STORE:-directory}
scale=${SCALE:-20}
export LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin # where mkfs.ext4 is

if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || { echo "attaching a block device and mounting it takes root: run it as root" >&2; exit 1; }
    exec sudo env FIRN="$firn" STORE="$store" SCALE="$scale" TMPDIR="${TMPDIR:-/var/tmp}" bash "$0"
fi
case $store in
directory | s3) ;;
*) echo "STORE is directory or s3, not $store" >&2; exit 2 ;;
esac
s3_server=$here/../replicator/tests/s3-server
programs=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
[ -n "$programs" ] || { echo "PostgreSQL is needed: make demo installs it" >&2; exit 1; }

# Not /tmp, which is often in memory: a pool needs a file system with O_DIRECT, such as ext4 or xfs.
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/firn-demo.XXXXXX")
chmod 755 "$folder"
cd "$folder"
mkdir data proof sockets
chown postgres: sockets
export FIRN_SOCKET=$folder/firn.sock FIRN_RUNTIME=$folder/runtime FIRN_STATE=$folder/state
unset FIRN_POOL FIRN_META FIRN_NBD FIRN_VAULT_KEY_FILE FIRN_VAULT_PASSPHRASE_FILE
daemon=
load=

# Everything that was started is ended, however the demonstration ends.
clean_up() {
    trap - EXIT
    set +e
    [ -z "$load" ] || kill "$load" 2>/dev/null
    lose_everything
    [ "$store" != s3 ] || bash "$s3_server" stop "$folder/s3" >/dev/null 2>&1
    cd / && rm -rf -- "$folder"
}
trap clean_up EXIT
# bash runs it for INT, TERM and HUP too, once what is in the foreground has ended.
trap 'exit 130' INT TERM HUP

# As if the machine were gone: no process gets the chance to write anything.
lose_everything() {
    local server servers=()
    for server in data/db proof/db; do
        [ ! -e "$server/postmaster.pid" ] || servers+=("$(head -n 1 "$server/postmaster.pid")")
    done
    kill -9 ${daemon:+"$daemon"} "${servers[@]}" 2>/dev/null || true
    rm -f sockets/.s.PGSQL.*
    [ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
    daemon=
    local mounted
    for mounted in data proof; do
        "$firn" detach --force "$folder/$mounted" >/dev/null 2>&1 || true
    done
    if [ -e pool_id ]; then
        rm -f -- "/dev/shm/firn-$(cat pool_id)" "/dev/shm/firn-$(cat pool_id).new" pool_id
    fi
    rm -rf -- pool pool.meta
}

say() { printf '\n\033[1m%s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n%s\n' "$*"; }
run() { # a command as a person types it
    printf '$ firn %s\n' "$*"
    "$firn" "$@"
}
field() { # NAME: its first number or string in the JSON on stdin
    sed -n 's/^ *"'"$1"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' | head -n 1
}
now_ms() { date +%s%3N; }

serve() {
    run pool create pool --size 16G
    "$firn" pool status --pool pool --json | field pool_id >pool_id
    echo '$ firn serve --pool pool &'
    "$firn" serve --pool pool --log warn &
    daemon=$!
    "$firn" pool status >/dev/null
}

# --- PostgreSQL, as its own user
postgres() { # PROGRAM ARGUMENTS...
    local program=$1
    shift
    (cd / && runuser -u postgres -- env PGHOST="$folder/sockets" PGUSER=postgres PGDATABASE=postgres \
        "$programs/$program" "$@" </dev/null)
}
start_postgres() { # WHERE
    # The snapshot was taken of a running database, whose lock file names a process of then.
    rm -f -- "$1/db/postmaster.pid"
    if ! postgres pg_ctl start -w -s -t 120 -D "$folder/$1/db" -l "$folder/$1/log" \
        -o "-c listen_addresses='' -c unix_socket_directories='$folder/sockets'" >/dev/null 2>&1; then
        cat "$1/log" >&2
        exit 1
    fi
}
stop_postgres() { postgres pg_ctl stop -w -s -m fast -D "$folder/$1/db"; }
checksum() { # of every row of every table of pgbench
    local table
    for table in accounts tellers branches history; do
        postgres psql -Atqc \
            "select '$table', count(*), sum(hashtextextended(t::text, 0)::numeric) from pgbench_$table t"
    done | sha256sum | cut -c 1-16
}
rows() { postgres psql -Atqc "select count(*) from pgbench_history"; }
soundness() { postgres pg_amcheck --install-missing --heapallindexed --database postgres >/dev/null 2>&1 && echo sound || echo BROKEN; }

if [ "$store" = s3 ]; then
    echo "An S3 server starts: Ceph's radosgw, with object lock."
    bash "$s3_server" start "$folder/s3" >s3-environment
    # The daemon sends, so it is the one that must have the credentials.
    set -a && . ./s3-environment && set +a
    bash "$s3_server" bucket "$folder/s3" firn-demo
fi

say "1. A pool, a volume, a file system, a live PostgreSQL"
serve
run volume create pg --size 8G
run attach pg --mkfs ext4 --mount "$folder/data"
chown postgres: data
postgres initdb --data-checksums --auth trust -D "$folder/data/db" >/dev/null
start_postgres data
postgres pgbench --initialize --quiet --scale "$scale" >/dev/null 2>&1
echo "PostgreSQL runs on it, with $(postgres psql -Atqc "select pg_size_pretty(pg_database_size('postgres'))") of data; pgbench keeps writing from here on."
(postgres pgbench -c 4 -j 2 -n -T 3600 --rate 400 >/dev/null 2>&1) &
load=$!

say "2. A vault"
case $store in
directory) address=$folder/vault ;;
s3)
    address="s3://firn-demo/vault?endpoint=$S3_ENDPOINT&region=us-east-1&path-style=true"
    ;;
esac
run vault init main "$address"

changed=0 content=0 stored=0
send() { # SNAPSHOT
    run snapshot create "pg@$1"
    echo "\$ firn vault send pg@$1 main"
    "$firn" vault send "pg@$1" main --json >"sent-$1"
    printf '%s: %s MB changed, %s MB with the map, %s MB stored, in %s s\n' "$(field kind <"sent-$1")" \
        "$(mb "$(field changed_bytes <"sent-$1")")" "$(mb "$(field content_bytes <"sent-$1")")" \
        "$(mb "$(field stored_bytes <"sent-$1")")" "$(field seconds <"sent-$1")"
}
mb() { awk -v bytes="$1" 'BEGIN { printf "%.1f", bytes / 1e6 }'; }
add_up() {
    changed=$((changed + $(field changed_bytes <"sent-$1")))
    content=$((content + $(field content_bytes <"sent-$1")))
    stored=$((stored + $(field stored_bytes <"sent-$1")))
}

say "3. A baseline, then two increments, while pgbench writes"
send monday
sleep 4
send tuesday
add_up tuesday
sleep 4
snapshot_ms=$(now_ms)
send wednesday
add_up wednesday
run vault points main

say "4. What the database was at pg@wednesday: a clone of the snapshot, started and read"
run clone create pg@wednesday proof
run attach proof --mount "$folder/proof"
stop_load() { kill "$load" 2>/dev/null || true; wait "$load" 2>/dev/null || true; load=; }
# Two servers with one socket directory can't run at once; pgbench goes on in the volume until then.
stop_load
stop_postgres data
start_postgres proof
before=$(checksum) before_rows=$(rows)
stop_postgres proof
run detach "$folder/proof"
run volume delete proof
echo "checksum of all rows: $before, $before_rows transactions in its history"
start_postgres data
(postgres pgbench -c 4 -j 2 -n -T 3600 --rate 400 >/dev/null 2>&1) &
load=$!
sleep 2

say "5. The machine is lost: every process killed, the pool and its snapshots deleted"
lost_ms=$(now_ms)
lose_everything
stop_load
ls -A "$folder" | tr '\n' ' '
echo "are left; the pool is not among them."

say "6. A new pool, restored from the vault"
restore_ms=$(now_ms)
serve
run vault restore main pg@wednesday --to pg
run attach pg --mount "$folder/data"
start_postgres data
rto_ms=$(($(now_ms) - restore_ms))
after=$(checksum) after_rows=$(rows) sound=$(soundness)
echo "checksum of all rows: $after, $after_rows transactions in its history"
run vault verify main --depth content
run vault check main
stop_postgres data
run detach "$folder/data"

say "What it comes to"
seconds() { awk -v ms="$1" 'BEGIN { printf "%.1f s", ms / 1000 }'; }
verdict=ok
[ "$before" = "$after" ] && [ "$before_rows" = "$after_rows" ] && [ "$sound" = sound ] || verdict=FAILED
printf '%-58s %s\n' \
    "RPO: the last point was older than the loss by" "$(seconds $((lost_ms - snapshot_ms)))" \
    "RTO: from an empty machine to a database that answers" "$(seconds "$rto_ms")" \
    "baseline: bytes of data, and as stored" "$(mb "$(field changed_bytes <sent-monday)") MB, $(mb "$(field stored_bytes <sent-monday)") MB" \
    "increments: bytes that changed" "$(mb "$changed") MB" \
    "increments: bytes sent, map included, before compression" "$(mb "$content") MB" \
    "increments: bytes as stored" "$(mb "$stored") MB" \
    "sent per byte changed, before compression (1.10 allowed)" "$(awk -v a="$content" -v b="$changed" 'BEGIN { printf "%.3f", a / b }')" \
    "indexes and pages of the restored database (pg_amcheck)" "$sound" \
    "the restored database is what it was at the snapshot" "$verdict"
[ "$verdict" = ok ]
