"""What the log of a vault says (section 10 of docs/format.md)."""

import re

from blake3 import blake3
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from vault_json import (array, digest, flag, key_id, lock_mode, members, object_name, optional, parse, parse_unproven,
                        text, whole)
from vault_objects import VERSION, Damaged, check, reading, unhex

# The version of entries that came with `forward`: the newest there is.
FORWARD_VERSION = 2
NO_KEY = "0" * 32

ENTRY = members(format=whole, vault=key_id, number=whole, previous=digest, time_ms=whole,
                who=members(user=text, host=text, program=text), action=text)
SEAL = members(signer=digest, signature=text)
COMMITTED = members(id=digest, pool=key_id, volume=whole, name=text, snapshot=text, created_ms=whole, bytes=whole,
                    changed_bytes=whole, stored_bytes=whole, parent=optional(digest), key=key_id,
                    retain_until_ms=optional(whole), locked=optional(members(mode=lock_mode, until_ms=whole)))
ACTIONS = {
    "init": members(settings=digest),
    "commit": members(points=array(COMMITTED), group=optional(text)),
    "prune": members(points=array(members(id=digest, reason=text))),
    "retain": members(points=array(digest), until_ms=whole, locked=optional(lock_mode)),
    "hold": members(point=digest, reason=text, locked=flag),
    "release": members(point=digest, reason=text),
    "forward": members(points=array(members(**{"from": digest, "to": COMMITTED}))),
    "condemn": members(objects=array(object_name)),
    "acquit": members(objects=array(object_name)),
    "delete": members(objects=array(object_name)),
    "add_slot": members(id=key_id, object=digest, name=text),
    "remove_slot": members(id=key_id),
    "add_key": members(id=key_id, object=digest, pool=key_id, volume=whole),
    "destroy_key": members(id=key_id),
    "add_signer": members(signer=digest, name=text),
    "remove_signer": members(signer=digest),
}


def raised(lock, mode, until_ms):
    """A lock after one of this mode and date was set: it only ever gets stronger."""
    if lock is None:
        return {"mode": mode, "until_ms": until_ms}
    modes = ("governance", "compliance")
    return {"mode": max(lock["mode"], mode, key=modes.index), "until_ms": max(lock["until_ms"], until_ms)}


def is_weaker(lock, than):
    """Whether `lock` binds less than another."""
    return than is not None and (lock is None or raised(lock, than["mode"], than["until_ms"]) != lock)


class Catalog:
    """Section 10: what the log says. Void entries change nothing; they are kept in `void`, with the reason.

    A live point is what its commit `said`, and what came after: `holds`, and the date `until_ms` (0 for none).
    """

    def __init__(self, vault, founder):
        self.vault, self.signers = vault, {founder}
        self.number, self.previous, self.time_ms = 0, "0" * 64, 0
        self.points, self.slots, self.keys, self.void = {}, {}, {}, []
        self.condemned, self.deleted, self.removed = set(), set(), set()
        self.forwarded = {}
        # Former points, by what stands in their place: what a pruned one was called, or the last that it went on as.
        self.former = {}
        self.settings = None

    def take(self, name, data):
        """Takes up the next entry, stored as `data`. It counts as a whole, or not at all."""
        with reading(name):
            said, seal, rest = data.split(b"\n")
            seal = SEAL(parse_unproven(name, seal))
            signer = seal["signer"]
            check(signer in self.signers, name, f"it is signed by {signer}, who may not sign")
            try:
                Ed25519PublicKey.from_public_bytes(unhex(signer, 32)).verify(
                    unhex(seal["signature"], 64), b"firn vault 1: log entry\n" + said)
            except InvalidSignature:
                raise Damaged(name, "its signature is wrong") from None
            entry = self.entry(name, parse(name, said, FORWARD_VERSION))
            version = FORWARD_VERSION if entry["action"] == "forward" else VERSION
            check(rest == b"" and entry["format"] == version and len(data) <= 4 << 20, name, "it is no entry")
            check(entry["vault"] == self.vault, name, "it is of another vault")
            check(entry["number"] == self.number + 1, name, f"it has number {entry['number']}")
            check(entry["previous"] == self.previous, name, "it does not follow the entry before: one was replaced")
            check(entry["time_ms"] >= self.time_ms, name, "it is dated before the entry before")
            check((entry["action"] == "init") == (self.number == 0), name, "a log begins with its init, once")
            why = self.contradiction(entry)
            if why:
                self.void.append((entry["number"], why))
            if not why or entry["action"] == "delete":
                self.apply(entry)
            self.number, self.time_ms = entry["number"], entry["time_ms"]
            self.previous = blake3(data).hexdigest()

    def entry(self, name, found):
        entry = ENTRY(found)
        check(entry["action"] in ACTIONS, name, f"no entry has action {entry['action']!r}")
        return {**entry, **ACTIONS[entry["action"]](found)}

    def is_in_use(self, name):
        kind, _, rest = name.partition("/")
        return kind == "points" and rest in self.points

    def must_stay(self, point, now_ms):
        return bool(point["holds"]) or point["until_ms"] > now_ms

    def contradiction(self, entry):
        """Why the entry is void; nothing when it is not."""
        action, now_ms = entry["action"], entry["time_ms"]
        absent = "there is no such point"
        if action == "commit":
            ids = [point["id"] for point in entry["points"]]
            for point in entry["points"]:
                key = self.keys.get(point["key"])
                is_usable = point["key"] == NO_KEY or (
                    key and not key["destroyed"] and (key["pool"], key["volume"]) == (point["pool"], point["volume"]))
                if point["id"] in self.points or f"points/{point['id']}" in self.deleted or not is_usable:
                    return "a point can't be committed again, nor under this key"
            return None if ids and len(set(ids)) == len(ids) else "it commits nothing, or a point twice"
        if action == "forward":
            return self.forward_contradiction(entry["points"])
        if action == "prune":
            for point in (self.points.get(pruned["id"]) for pruned in entry["points"]):
                if point is None or self.must_stay(point, now_ms):
                    return "a point must stay" if point else absent
        if action == "retain":
            for point in map(self.points.get, entry["points"]):
                if point is None or point["until_ms"] > entry["until_ms"]:
                    return "a date never moves earlier" if point else absent
        if action in ("hold", "release"):
            point = self.points.get(entry["point"])
            if point is None or (entry["reason"] in point["holds"]) == (action == "hold"):
                return "the hold is there already, or not there" if point else absent
        if action == "condemn":
            hashed = r"(points|runs|packs)/([^/]+/)*[0-9a-f]{64}(\.0*[1-9][0-9]*)?"
            if not all(re.fullmatch(hashed, name) and name not in self.deleted and not self.is_in_use(name)
                       for name in entry["objects"]):
                return "an object is in use, or can't be deleted"
        if action == "acquit" and not self.condemned.issuperset(entry["objects"]):
            return "an object was not condemned"
        if action == "delete":
            if not all(name in self.condemned and not self.is_in_use(name) for name in entry["objects"]):
                return "an object is in use, or was not condemned"
        if action in ("add_slot", "add_key"):
            if entry["id"] == NO_KEY or entry["id"] in self.slots or entry["id"] in self.keys:
                return "the identity is taken"
        if action == "add_key":
            owner = (entry["pool"], entry["volume"])
            if any((key["pool"], key["volume"]) == owner and not key["destroyed"] for key in self.keys.values()):
                return "the volume has a key"
        if action == "remove_slot" and (entry["id"] not in self.slots or len(self.slots) == 1):
            return "there is no such slot, or it is the last one"
        if action == "destroy_key":
            key = self.keys.get(entry["id"])
            if key is None or key["destroyed"]:
                return "there is no such key"
            if any(p["said"]["key"] == entry["id"] and self.must_stay(p, now_ms) for p in self.points.values()):
                return "a point must stay readable"
            if key["locked_ms"] > now_ms:
                return "what it encrypts is locked"
        if action == "add_signer" and entry["signer"] in self.signers:
            return "they may sign already"
        if action == "remove_signer" and (entry["signer"] not in self.signers or len(self.signers) == 1):
            return "they may not sign anyway, or nobody could any more"
        return None

    def forward_contradiction(self, points):
        """Why points can't go on as others."""
        old, new = [each["from"] for each in points], [each["to"]["id"] for each in points]
        if not points or len(set(old)) < len(old) or len(set(new)) < len(new):
            return "it forwards nothing, or a point twice"
        for identity, to in zip(old, (each["to"] for each in points)):
            point, key = self.points.get(identity), self.keys.get(to["key"])
            if point is None or to["id"] in self.points or f"points/{to['id']}" in self.deleted:
                return "there is no such point, or the other can't come"
            if any(point["said"][member] != value for member, value in to.items()
                   if member not in ("id", "retain_until_ms", "locked")) or (key and key["destroyed"]):
                return "the other is not the same, or can't be read"
            if (to["retain_until_ms"] or 0) < point["until_ms"] or is_weaker(to["locked"], point["locked"]):
                return "a date never moves earlier, and a lock gets no weaker"
        return None

    def kept(self):
        """Former points with a date, whether it has passed or not, or with a hold, in the order in which they left."""
        former = [each for all_of_one in self.former.values() for each in all_of_one]
        return sorted((each for each in former if each["until_ms"] or each["holds"]),
                      key=lambda each: (each["left"], each["id"]))

    def current(self, identity):
        """What a point is called now: itself, or what took its place."""
        while identity in self.forwarded and identity not in self.points:
            identity = self.forwarded[identity]
        return identity

    def leave(self, identity, successor, number):
        """Takes a point out of the vault. With a date or a hold it is a former one from then on."""
        point = self.points.pop(identity)
        former = self.former.pop(identity, [])
        if point["until_ms"] or point["holds"]:
            former.append({"id": identity, "left": number, "holds": set(point["holds"]), "until_ms": point["until_ms"]})
        self.former.setdefault(successor or identity, []).extend(former)
        return point

    def apply(self, entry):
        action = entry["action"]
        if action == "init":
            self.settings = entry["settings"]
        elif action == "commit":
            for said in entry["points"]:
                self.forwarded.pop(said["id"], None)
                self.points[said["id"]] = {"said": said, "holds": set(), "until_ms": said["retain_until_ms"] or 0,
                                           "group": entry["group"], "number": entry["number"],
                                           "locked": said["locked"]}
                self.lock_key(said["key"], said["locked"] and said["locked"]["until_ms"])
        elif action == "prune":
            for identity in {pruned["id"] for pruned in entry["points"]}:
                self.leave(identity, None, entry["number"])
        elif action == "forward":
            for each in entry["points"]:
                to = each["to"]
                point = self.leave(each["from"], to["id"], entry["number"])
                self.forwarded.pop(to["id"], None)
                self.forwarded[each["from"]] = to["id"]
                self.points[to["id"]] = {**point, "said": to, "until_ms": to["retain_until_ms"] or 0,
                                         "locked": to["locked"]}
                self.lock_key(to["key"], to["locked"] and to["locked"]["until_ms"])
        elif action == "retain":
            for point in map(self.points.get, entry["points"]):
                point["until_ms"] = entry["until_ms"]
                if entry["locked"]:
                    point["locked"] = raised(point["locked"], entry["locked"], entry["until_ms"])
                self.lock_key(point["said"]["key"], entry["locked"] and entry["until_ms"])
        elif action == "hold":
            self.points[entry["point"]]["holds"].add(entry["reason"])
        elif action == "release":
            self.points[entry["point"]]["holds"].discard(entry["reason"])
            for former in self.former.get(entry["point"], []):
                former["holds"].discard(entry["reason"])
        elif action == "condemn":
            self.condemned.update(entry["objects"])
        elif action == "acquit":
            self.condemned.difference_update(entry["objects"])
        elif action == "delete":
            self.condemned.difference_update(entry["objects"])
            self.deleted.update(entry["objects"])
        elif action == "add_slot":
            self.slots[entry["id"]] = entry
        elif action == "add_key":
            self.keys[entry["id"]] = {**entry, "destroyed": False, "locked_ms": 0}
        elif action == "remove_slot":
            del self.slots[entry["id"]]
            self.removed.add(entry["id"])
        elif action == "destroy_key":
            self.keys[entry["id"]]["destroyed"] = True
        elif action == "add_signer":
            self.signers.add(entry["signer"])
        elif action == "remove_signer":
            self.signers.discard(entry["signer"])

    def lock_key(self, key, until_ms):
        """What `key` encrypts is locked until then, and stays so when its points are pruned."""
        if key in self.keys and until_ms:
            self.keys[key]["locked_ms"] = max(self.keys[key]["locked_ms"], until_ms)
