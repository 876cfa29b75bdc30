#!/usr/bin/env python3
"""Lists, restores and verifies the recovery points of a firn vault, without firn.

It follows docs/format.md and shares no code with firn; "section" means that page's. vault_log.py, vault_json.py and
vault_objects.py, which it needs beside it, read the log and what it leads to. A vault is a directory, or a bucket that
was downloaded into one. Nothing in it is ever written.

    pip install -r requirements.txt
    python3 firn_vault.py list DIRECTORY
    python3 firn_vault.py restore DIRECTORY VOLUME@SNAPSHOT --to FILE
    python3 firn_vault.py verify DIRECTORY

Exit status: 0 all is well, 1 something is damaged (it says what, and restores what it can), 2 anything else.
"""

import argparse
import functools
import getpass
import os
import re
import sys
import time

from blake3 import blake3
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from vault_json import array, digest, key_id, members, optional, parse, text, whole
from vault_log import NO_KEY, Catalog
from vault_objects import (BLOCK, BLOCKS_MAX, FRAME_BLOCKS, VERSION, Container, Damaged, Frames, Pack, Refused, Run,
                           Store, check, derive, overlay, reading, run_place, unhex)

RUN = members(id=digest, generation=lambda value: whole(value, 2**32), stored_bytes=whole,
              frames=lambda value: whole(value, 2**20 + 1), table_hash=digest)
POINT = members(firn=text, format=whole, vault=key_id, bytes=lambda value: whole(value, 2**59 + 1),
                source=members(pool=key_id, volume=whole, name=text, snapshot=text, created_ms=whole),
                parent=optional(digest), key=key_id, runs=array(RUN), retain_until_ms=optional(whole),
                sent=members(changed_bytes=whole, stored_bytes=whole))


class Vault:
    """Sections 9 and 17: a vault that was opened. Damage of its log is kept in `problems`, and all else goes on."""

    def __init__(self, root, secrets):
        self.store, self.problems = Store(root), []
        data = self.store.get("vault.json")
        settings = parse("vault.json", data)
        with reading("vault.json"):
            known = [settings[name] for name in ("firn", "format", "hash", "compression", "block_bytes")]
            check(known == ["vault", VERSION, "blake3", "zstd", BLOCK], "vault.json", f"it says {known}")
            self.id = unhex(settings["vault"], 16)
            self.catalog = Catalog(settings["vault"], settings["founder"])
        self.read_log(blake3(data).hexdigest())
        self.opened, self.master = {NO_KEY: Frames(self.id, None)}, None
        if any(secrets):
            self.master = self.open_slot(*secrets)

    def read_log(self, settings_hash):
        numbers = [name for name in self.store.names("log") if re.fullmatch("log/[0-9]{16}", name)]
        try:
            for number in range(1, int(numbers[-1][4:]) + 1 if numbers else 2):
                name = f"log/{number:016}"
                self.catalog.take(name, self.store.get(name))
                check(self.catalog.settings == settings_hash, "vault.json", "the log begins with another one")
        except Damaged as damage:
            self.problems.append(damage)

    def key_object(self, entry):
        name = f"keys/{unhex(entry['id'], 16).hex()}"
        data = self.store.get(name)
        check(entry["object"] in (None, blake3(data).hexdigest()), name, "it is not the object that the log names")
        try:
            slot = parse(name, data)
        except Refused as refused:
            # Without the log's hash nobody has proven that version.
            check(entry["object"], name, str(refused))
            raise
        with reading(name):
            check([slot[member] for member in ("firn", "format", "vault", "id")]
                  == ["key", VERSION, self.id.hex(), entry["id"]], name, "it is another key")
        return name, slot

    def unwrap(self, name, slot, key):
        with reading(name):
            wrapped = unhex(slot["wrapped"], 60)
            bound = b"firn vault 1: wrapped key" + self.id + unhex(slot["id"], 16)
            try:
                return AESGCM(key).decrypt(wrapped[:12], wrapped[12:], bound)
            except InvalidTag:
                return None

    def open_slot(self, passphrase, key_file):
        """Section 11: the master key."""
        slots = list(self.catalog.slots.values())
        if self.problems:
            # What a damaged log does not know may be right all the same: the key that opens it says so.
            known = {*self.catalog.slots, *self.catalog.keys, *self.catalog.removed}
            names = [name[5:] for name in self.store.names("keys") if re.fullmatch("keys/[0-9a-f]{32}", name)]
            slots += [{"id": name, "object": None} for name in names if name not in known]
        for entry in slots:
            try:
                master = self.try_slot(entry, passphrase, key_file)
            except Damaged as damage:
                self.problems.append(damage)
                continue
            if master:
                return master
        for damage in self.problems:
            say(f"damaged: {damage}")
        raise Refused("no key slot of this vault is opened by that passphrase or key file")

    def try_slot(self, entry, passphrase, key_file):
        """The master key, when this slot is opened by one of both."""
        name, slot = self.key_object(entry)
        key = None
        with reading(name):
            if slot["opened_by"] == "passphrase" and passphrase:
                memory, passes = whole(slot["memory_kib"], 2**20 + 1), whole(slot["passes"], 65)
                key = Argon2id(salt=bytes.fromhex(slot["salt"]), length=32, iterations=passes, lanes=1,
                               memory_cost=memory).derive(passphrase)
            if slot["opened_by"] == "key_file" and key_file:
                key = derive("firn vault 1: key file", key_file)
        return key and self.unwrap(name, slot, key)

    def frames(self, key):
        """What opens the frames under data key `key`."""
        if key not in self.opened:
            entry = self.catalog.keys.get(key)
            if entry is None and self.problems:
                entry = {"id": key, "object": None, "destroyed": False}
            if entry is None:
                raise Refused(f"the log does not know the data key {key}")
            if entry["destroyed"]:
                raise Refused(f"the data key {key} was destroyed: its points can never be read again")
            if self.master is None:
                raise Refused("this point is encrypted: give --passphrase, --passphrase-file or --key-file")
            name, slot = self.key_object(entry)
            with reading(name):
                check(slot["opened_by"] == "master_key", name, "it is no data key")
                check(entry["object"] is None or [slot["pool"], slot["volume"]] == [entry["pool"], entry["volume"]],
                      name, "it is of another volume")
            data_key = self.unwrap(name, slot, self.master)
            check(data_key, name, "the master key does not open it")
            self.opened[key] = Frames(self.id, data_key)
        return self.opened[key]

    def point(self, identity):
        """Section 12: a point, held against what the log says of it."""
        name = f"points/{identity}"
        data = self.store.get(name, 16 << 20)
        check(blake3(data).hexdigest() == identity, name, "it does not have the hash in its name")
        with reading(name):
            point = POINT(parse(name, data))
            check([point[member] for member in ("firn", "format", "vault")] == ["point", VERSION, self.id.hex()], name,
                  "it is no point of this vault")
            check(point["bytes"] % BLOCK == 0 and len(point["runs"]) <= 8, name, "it contradicts itself")
            live = self.catalog.points.get(identity)
            repeated = {**point, **point["source"], **point["sent"]}
            check(not live or all(value == repeated[member] for member, value in live["said"].items()
                                  if member not in ("id", "locked")), name, "the log says something else of it")
        return point

    def find(self, wanted):
        """The point that is meant by an id or its first digits, VOLUME@SNAPSHOT, or VOLUME for its newest; by former/ and
        an id or its first digits one that left the vault, and not what took its place."""
        if wanted.startswith("former/"):
            digits = wanted.removeprefix("former/")
            ids = {former["id"] for former in self.catalog.kept() if former["id"].startswith(digits)}
            if re.fullmatch("[0-9a-f]{64}", digits):
                ids = {digits}
            if len(ids) != 1:
                raise Refused(f"{wanted!r} is {'no' if not ids else 'more than one'} former point: see list")
            return ids.pop()
        if re.fullmatch("[0-9a-f]{64}", wanted):
            return self.catalog.current(wanted)
        volume, _, snapshot = wanted.partition("@")
        named = {id: point for id, point in self.catalog.points.items() if point["said"]["name"] == volume}
        if len({point["said"]["pool"] for point in named.values()}) > 1:
            raise Refused(f"{volume!r} is in more than one pool that was sent here: give a point's id, see list")
        found = sorted((point["number"], id) for id, point in named.items()
                       if snapshot in ("", point["said"]["snapshot"]))
        known = {*self.catalog.points, *self.catalog.forwarded}
        begin = {self.catalog.current(id) for id in known if id.startswith(wanted)}
        ids = [id for _, id in found[-1:]] or [id for id in begin if id in self.catalog.points]
        if len(ids) != 1:
            raise Refused(f"{wanted!r} is {'no' if not ids else 'more than one'} point: see list")
        return ids[0]

    def run(self, point, reference):
        """The pieces of a run. What a lost one said, nobody knows of any block: only newer runs count then."""
        try:
            return Run(self, point["key"], reference).extents()
        except Damaged as damage:
            return iter([(0, BLOCKS_MAX, damage, 0)])

    def map(self, point):
        """The point's map, as pieces in block order that end where the volume does; what is in none is a hole."""
        if point["runs"]:
            self.frames(point["key"])
        runs = [self.run(point, run) for run in point["runs"]]
        pieces = functools.reduce(lambda older, run: overlay(run, older), reversed(runs), iter(()))
        blocks = point["bytes"] // BLOCK
        for first, end, pack, position in pieces:
            if first < blocks:
                yield first, min(end, blocks), pack, position


def restore(vault, identity, out, is_stream):
    """Section 17: writes a point. Blocks that are lost are left as zeros and named; returns how many."""
    point = vault.point(identity)
    lost = 0
    # By all that a run says of a pack: what two lists say of one name may differ, and only one of them is right then.
    pack_of = functools.lru_cache(16)(lambda known: Pack(vault, point["key"], dict(known)))
    frame_of = functools.lru_cache(256)(lambda known, index: pack_of(known).frame(index))
    at = 0

    def blocks_of(pack, position, count):
        """The content of `count` blocks, a frame at a time, or the damage that it is lost by."""
        if isinstance(pack, Damaged):
            yield count, pack
            return
        known = tuple(pack.items())
        while count:
            index, skip = divmod(position, FRAME_BLOCKS)
            take = min(FRAME_BLOCKS - skip, count)
            try:
                yield take, frame_of(known, index)[skip * BLOCK:(skip + take) * BLOCK]
            except Damaged as damage:
                yield take, damage
            position, count = position + take, count - take

    def zeros(blocks):
        if not is_stream:
            out.seek(blocks * BLOCK, os.SEEK_CUR)
            return
        for part in range(0, blocks, 256):
            out.write(bytes(min(256, blocks - part) * BLOCK))

    for first, end, pack, position in vault.map(point):
        zeros(first - at)
        at = end
        if pack is None:
            zeros(end - first)
            continue
        for count, content in blocks_of(pack, position, end - first):
            if isinstance(content, Damaged):
                say(f"lost: blocks {first} to {first + count - 1} of the volume: {content}")
                lost += count
                zeros(count)
            else:
                out.write(content)
            first += count
    zeros(point["bytes"] // BLOCK - at)
    if not is_stream:
        out.truncate(point["bytes"])
    return lost


def verify(vault):
    """Every stored byte against the hash in its name, and with keys every frame of every live point."""
    problems, needs = {}, {}
    for damage in vault.problems:
        problems.setdefault(damage.name, str(damage))
    for entry in [*vault.catalog.slots.values(), *(k for k in vault.catalog.keys.values() if not k["destroyed"])]:
        try:
            vault.key_object(entry)
        except Damaged as damage:
            problems.setdefault(damage.name, str(damage))
    for prefix in ("points", "runs", "packs"):
        for name in vault.store.names(prefix):
            try:
                check(vault.store.hash(name) == name.split("/")[-1].split(".")[0], name,
                      "it does not have the hash in its name")
            except Damaged as damage:
                problems[name] = str(damage)
    unread, seen = set(), set()
    for identity, live in vault.catalog.points.items():
        label = f"{live['said']['name']}@{live['said']['snapshot']}"
        point = None
        try:
            needs.setdefault(f"points/{identity}", []).append(label)
            point = vault.point(identity)
            vault.frames(point["key"])
        except Damaged as damage:
            problems.setdefault(damage.name, str(damage))
            continue
        except Refused as refused:
            unread.add(identity)
            say(f"{label}: its content was not read, nor which packs it needs: {refused}")
            for reference in point["runs"] if point else []:
                name, role, shape = run_place(reference)
                needs.setdefault(name, []).append(label)
                try:
                    Container(vault, name, role, point["key"], shape)
                except Damaged as damage:
                    problems.setdefault(damage.name, str(damage))
            continue
        for reference in point["runs"]:
            try:
                run = Run(vault, point["key"], reference)
                needs.setdefault(run.name, []).append(label)
                lost = [pack for pack in run.packs if isinstance(pack, Damaged)]
                lost += [pack for _, _, pack, _ in run.extents() if isinstance(pack, Damaged)]
                for damage in lost:
                    problems.setdefault(damage.name, str(damage))
            except Damaged as damage:
                needs.setdefault(damage.name, []).append(label)
                problems.setdefault(damage.name, str(damage))
                continue
            for pack in run.packs:
                if isinstance(pack, Damaged):
                    continue
                needs.setdefault(pack["name"], []).append(label)
                known = (point["key"], *pack.items())
                if known in seen:
                    continue
                seen.add(known)
                try:
                    opened = Pack(vault, point["key"], pack)
                    for index in range(len(opened.rows)):
                        opened.frame(index)
                except Damaged as damage:
                    problems.setdefault(damage.name, str(damage))
    for name, problem in sorted(problems.items()):
        points = ", ".join(dict.fromkeys(needs.get(name, [])))
        say(f"damaged: {problem}{f' (needed by {points})' if points else ''}")
    print(f"{len(vault.catalog.points)} points, {len(unread)} of them not read for want of a key, "
          f"{len(problems)} objects damaged")
    return 1 if problems else 0


def say(text):
    print(plain(text), file=sys.stderr)


def plain(text):
    """Names are the log's: nothing in them may steer a terminal, or be no text at all."""
    return "".join(each if each.isprintable() else "?" for each in str(text))


def day(ms):
    if ms >= 253402300800000:
        return "after the year 9999"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms // 1000))


def show(vault):
    catalog = vault.catalog
    points = sorted(catalog.points.items(), key=lambda item: (item[1]["number"], item[1]["said"]["name"]))
    line = "{:12}  {:24}  {:19}  {:>16}  {:>9}  {}"
    print(line.format("POINT", "VOLUME@SNAPSHOT", "TAKEN (UTC)", "BYTES", "ENCRYPTED", "KEPT"))
    for identity, point in points:
        said = point["said"]
        kept = [f"held: {plain(reason)}" for reason in sorted(point["holds"])]
        kept += [f"until {day(point['until_ms'])}"] if point["until_ms"] else []
        print(line.format(identity[:12], plain(f"{said['name']}@{said['snapshot']}"), day(said["created_ms"]),
                          said["bytes"], "no" if said["key"] == NO_KEY else "yes", ", ".join(kept) or "-"))
    for former in catalog.kept():
        kept = [f"held: {plain(reason)}" for reason in sorted(former["holds"])]
        kept += [f"until {day(former['until_ms'])}"] if former["until_ms"] else []
        print(f"former/{former['id'][:12]} left the vault by entry {former['left']}: {', '.join(kept)}")
    for number, why in catalog.void:
        print(f"log entry {number} counts for nothing: {why}")
    print(f"log: {catalog.number} entries, the last one has hash {catalog.previous}")


def secrets_of(arguments):
    """The passphrase's bytes and the key file's, as far as they were given."""
    passphrase = key_file = None
    if arguments.passphrase:
        passphrase = getpass.getpass("passphrase: ").encode("utf-8")
    if arguments.passphrase_file:
        with open(arguments.passphrase_file, "rb") as file:
            passphrase = file.read().split(b"\n")[0].removesuffix(b"\r")
        if not passphrase:
            raise Refused(f"{arguments.passphrase_file} begins with an empty line, and not with a passphrase")
    if arguments.key_file:
        with open(arguments.key_file, "rb") as file:
            found = re.fullmatch(rb"firn key file 1\n([0-9a-f]{64})\s*", file.read())
        if not found:
            raise Refused(f"{arguments.key_file} is no firn key file")
        key_file = bytes.fromhex(found[1].decode("ascii"))
    return passphrase, key_file


def arguments_of(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["list", "restore", "verify"])
    parser.add_argument("directory", help="the vault")
    parser.add_argument("point", nargs="?", help="an id or its first digits, VOLUME@SNAPSHOT, or VOLUME: its newest; "
                        "former/ID is a point that left the vault")
    parser.add_argument("--to", metavar="FILE", help="what to restore to: a new file, or - for stdout")
    parser.add_argument("--passphrase", action="store_true", help="ask for the passphrase")
    parser.add_argument("--passphrase-file", metavar="FILE", help="a file whose first line is the passphrase")
    parser.add_argument("--key-file", metavar="FILE", help="a firn key file")
    parser.add_argument("--head", metavar="NUMBER:HASH", help="an entry of the log that was seen: it must be there")
    arguments = parser.parse_args(words)
    if arguments.command == "restore" and not (arguments.point and arguments.to):
        parser.error("restore needs a point and --to")
    return arguments


def check_head(vault, head):
    number, _, hashed = head.partition(":")
    if not number.isdecimal():
        raise Refused(f"{head!r} is no number and hash of an entry")
    name = f"log/{int(number):016}"
    check(int(number) <= vault.catalog.number, name, "the log went back: it was longer once")
    check(vault.store.hash(name) == hashed, name, "it is not the entry that was seen: the log was replaced")


def main(words):
    arguments = arguments_of(words)
    vault = Vault(arguments.directory, secrets_of(arguments))
    if arguments.head:
        check_head(vault, arguments.head)
    if arguments.command == "verify":
        return verify(vault)
    for damage in vault.problems:
        say(f"damaged: {damage}")
    status = 1 if vault.problems else 0
    if arguments.command == "list":
        show(vault)
        return status
    identity = vault.find(arguments.point)
    if identity not in vault.catalog.points:
        say(f"the log does not say that point {identity} is in the vault; it is restored all the same")
    if arguments.to == "-":
        lost = restore(vault, identity, sys.stdout.buffer, True)
        sys.stdout.buffer.flush()
    else:
        with open(arguments.to, "xb") as out:
            try:
                lost = restore(vault, identity, out, False)
            except BaseException:
                os.unlink(arguments.to)
                raise
    say(f"{identity} restored" + (f", but {lost} blocks are lost" if lost else ""))
    return 1 if lost else status


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Damaged as damage:
        say(f"damaged: {damage}")
        sys.exit(1)
    except (Refused, OSError) as error:
        say(f"error: {error}")
        sys.exit(2)
