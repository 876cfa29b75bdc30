#!/usr/bin/env bash
# What firn does today, for real, on a pool in a temporary folder: `make demo` runs it. FIRN names the program.
#
# An image goes into a volume, a snapshot is taken, the volume changes, the delta says what changed, the snapshot is
# cloned, the volume is rolled back; every state is exported and compared with what it must be. Then an import is
# killed in the middle of its writes, and the pool recovers.
#
# The vault joins with the next milestone: the delta then goes up as a recovery point and comes back from there.
set -euo pipefail

firn=$(realpath -- "${FIRN:-target/release/firn}")
PATH=$PATH:/usr/sbin:/sbin # where mkfs.ext4 is
export LC_ALL=C

# Not /tmp, which is often in memory: a pool needs a file system with O_DIRECT, such as ext4 or xfs.
folder=$(mktemp -d "${TMPDIR:-/var/tmp}/firn-demo.XXXXXX")
writer=
pool_id=
clean_up() {
    trap - EXIT
    if [ -n "$writer" ]; then
        kill -9 "$writer" 2>/dev/null || true
        wait "$writer" 2>/dev/null || true
    fi
    # A command that was cut off from its script finishes first: it has the lock on the pool.
    [ ! -e pool ] || flock -w 30 pool true || true
    if [ -n "$pool_id" ]; then
        rm -f -- "/dev/shm/firn-$pool_id" "/dev/shm/firn-$pool_id.new"
    fi
    rm -rf -- "$folder"
}
# bash runs it for INT, TERM and HUP too.
trap clean_up EXIT

cd "$folder"
export FIRN_POOL=pool
unset FIRN_META FIRN_SOCKET

run() { # a command as a person types it
    printf '\n$ firn %s\n' "$*"
    "$firn" "$@"
}
field() { # NAME: its first number or string in the JSON on stdin
    sed -n 's/^ *"'"$1"'": "\{0,1\}\([^",]*\)"\{0,1\},\{0,1\}$/\1/p' | head -n 1
}
sum() { sha256sum <"$1" | cut -c 1-16; }
exported() { "$firn" export "$1" - 2>/dev/null | sha256sum | cut -c 1-16; }
now_ms() { date +%s%3N; }

results=()
failed=0
result() { # WHAT, WAS, MUST BE
    local verdict=ok
    if [ "$2" != "$3" ]; then
        verdict=FAILED
        failed=1
    fi
    results+=("$(printf '%-52s %-18s %s' "$1" "$2" "$verdict")")
}

# --- an image: a file system where mkfs.ext4 is, else noise that is the same at each run
noise() { # MIB, SEED
    openssl enc -aes-128-ctr -nosalt -K "$(printf '%032x' "$2")" -iv 0 -in /dev/zero 2>/dev/null |
        head -c "$1M" || true
}
if ! command -v openssl >/dev/null; then
    noise() { head -c "$1M" /dev/urandom; }
fi
if command -v mkfs.ext4 >/dev/null && command -v debugfs >/dev/null; then
    kind="an ext4 file system"
    mkdir files
    for number in 1 2 3 4; do
        noise 24 "$number" >"files/table-$number"
    done
    truncate -s 256M before.img
    mkfs.ext4 -q -F -b 4096 -d files before.img
    cp --sparse=always before.img after.img
    noise 1 9 >changed
    debugfs -w -R "write changed upgraded" after.img >/dev/null 2>&1
    rm -r files changed
else
    kind="noise"
    noise 128 1 >before.img
    cp before.img after.img
    noise 1 9 | dd of=after.img bs=1M seek=40 conv=notrunc status=none
fi
echo "An image to work with: $kind, $(du -h --apparent-size before.img | cut -f 1)."

# --- snapshot, change, delta
run pool create --size 4G
pool_id=$("$firn" pool status --json | field pool_id)
run import before.img pg
run snapshot create pg@before-upgrade
run import after.img pg --overwrite
run delta pg@before-upgrade pg
changed=$("$firn" delta pg@before-upgrade pg --json | field changed_bytes)
# cmp says that they differ, as they must.
differing=$(($({ cmp -l before.img after.img || true; } | awk '{ print int(($1 - 1) / 4096) }' | uniq | wc -l) * 4096))
result "the delta: bytes in blocks that differ" "$changed" "$differing"
result "the volume is the new image" "$(exported pg)" "$(sum after.img)"
result "its snapshot is the old one" "$(exported pg@before-upgrade)" "$(sum before.img)"

# --- clone, rollback
run clone create pg@before-upgrade test
run snapshot rollback pg@before-upgrade --keep-as upgraded
run volume list
run snapshot list
result "the clone is the old image" "$(exported test)" "$(sum before.img)"
result "the volume, rolled back, is the old image" "$(exported pg)" "$(sum before.img)"
result "what the rollback displaced is kept" "$(exported pg@upgraded)" "$(sum after.img)"
if [ "$kind" != noise ]; then
    run export pg@upgraded upgraded.img
    e2fsck -fn upgraded.img >/dev/null 2>&1 && sound=yes || sound=no
    result "the exported file system is sound (e2fsck)" "$sound" yes
    rm upgraded.img
fi

# --- a writer dies
noise 512 7 >big.img
printf '\n$ firn import big.img big   # and kill -9 in the middle of it\n'
"$firn" import big.img big >/dev/null 2>&1 &
writer=$!
# It has written what it read, but for the last few MiB.
while [ "$(awk '$1 == "rchar:" { print $2 }' "/proc/$writer/io" 2>/dev/null || echo 0)" -lt 167772160 ] &&
    kill -0 "$writer" 2>/dev/null; do :; done
kill -9 "$writer" 2>/dev/null || true
wait "$writer" 2>/dev/null && killed=no || killed=yes
writer=
start=$(now_ms)
status=$("$firn" pool status --json)
recovery_ms=$(($(now_ms) - start))
printf '%s\n' "$status" | sed -n '/"recovery"/,/}/p'
result "the import was killed while it was writing" "$killed" yes
result "the pool was not closed (clean)" "$(field clean <<<"$status")" false
run volume list
result "the volume is what it was" "$(exported pg)" "$(sum before.img)"
result "its snapshot is what it was" "$(exported pg@upgraded)" "$(sum after.img)"
run import big.img big --overwrite
result "the killed import, gone on with, is whole" "$(exported big)" "$(sum big.img)"
run pool status
run pool check --data && sound=yes || sound=no
result "everything agrees, every block has its checksum" "$sound" yes

printf '\n%-52s %-18s %s\n' "WHAT" "BYTES OR SHA-256" "RESULT"
printf '%s\n' "${results[@]}"
printf '\nAfter the kill, "firn pool status" had recovered, answered and closed the pool in %s ms.\n' "$recovery_ms"
exit "$failed"
