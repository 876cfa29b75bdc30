"""The reader and vaults that somebody wrote who means harm, or that are half gone: it never restores wrongly and says
so, never ends with a traceback, and one bad object costs only what needs it.

    python3 -m unittest discover -s tests
"""

import contextlib
import io
import os
import struct
import sys
import tempfile
import unittest

import zstandard
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

import firn_vault
from hostile_vault import HOLE, KEY, NO_KEY, HostileVault, numbers_of
from vault_objects import Damaged, Refused

PACK = list(range(1, 18))


class Case(unittest.TestCase):
    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.root = directory.name
        self.vault = HostileVault(os.path.join(self.root, "vault"))

    def run_reader(self, *words):
        """Status, what it printed, what it complained of."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status = firn_vault.main([words[0], self.vault.root, *words[1:]])
            except Damaged as damage:
                status = 1
                firn_vault.say(damage)
            except Refused as refused:
                status = 2
                firn_vault.say(refused)
        return status, out.getvalue(), err.getvalue()

    def restore(self, point, *secrets):
        """Status, the numbers of the blocks or nothing, what it complained of."""
        to = os.path.join(self.root, "restored")
        status, _, said = self.run_reader("restore", point, "--to", to, *secrets)
        if not os.path.exists(to):
            return status, None, said
        with open(to, "rb") as file:
            content = numbers_of(file.read())
        os.unlink(to)
        return status, content, said

    def passphrase(self, text):
        path = os.path.join(self.root, text)
        with open(path, "w", encoding="utf-8") as file:
            file.write(f"{text}\nnot this line\n")
        return "--passphrase-file", path

    def simple_point(self, **how):
        """A point of one block."""
        pack = self.vault.pack([7])
        return self.vault.point([self.vault.run([(0, 1, 0, 0)], [pack])], 1, **how)

    def voided(self):
        """The numbers of the entries that count for nothing."""
        _, out, _ = self.run_reader("list")
        return [int(line.split()[2]) for line in out.splitlines() if line.startswith("log entry")]


class Content(Case):
    def test_a_right_vault_is_restored(self):
        run = self.vault.run([(0, 17, 0, 0), (18, 1, 0, 3)], [self.vault.pack(PACK)])
        self.vault.commit(self.vault.point([run], 20))
        self.assertEqual(self.restore("db@a")[:2], (0, [*PACK, 0, 4, 0]))
        self.assertEqual(self.run_reader("verify")[0], 0)

    def test_a_pack_that_two_lists_describe_in_two_ways_is_checked_by_each(self):
        hashed, shape, blocks = pack = self.vault.pack(PACK)
        more = (hashed, shape, 18)
        longer = (hashed, (shape[0] + 56, 3, bytes(32)), 48)
        for wrong, position in ((more, 16), (longer, 40)):
            one = [self.vault.run([(0, 4, 0, 0), (4, 1, 1, position), (5, 2, 0, 4)], [pack, wrong])]
            two = [self.vault.run([(0, 4, 0, 0), (5, 2, 0, 4)], [pack]),
                   self.vault.run([(4, 1, 0, position)], [wrong])]
            for runs in (one, two):
                point = self.vault.commit(self.vault.point(runs, 7))
                status, content, said = self.restore(point)
                self.assertEqual((status, content), (1, [1, 2, 3, 4, 0, 5, 6]))
                self.assertIn("lost: blocks 4 to 4", said)
        self.assertEqual(self.run_reader("verify")[0], 1)

    def test_a_damaged_frame_of_a_map_costs_what_it_says(self):
        pack = self.vault.pack(PACK)
        old = self.vault.run([(0, 17, 0, 0)], [pack])
        new = self.vault.run([(0, 1, HOLE, 0), (2, 1, HOLE, 0), (4, 1, HOLE, 0)], [], frame_extents=1)
        self.vault.commit(self.vault.point([new, old], 17))
        self.vault.flip(f"runs/{new['id']}", 70)
        status, content, said = self.restore("db@a")
        self.assertEqual((status, content), (1, [0, 0, 0, 4, 0, *PACK[5:]]), said)
        self.vault.flip(f"runs/{new['id']}", 70)
        os.unlink(self.vault.path(f"runs/{old['id']}"))
        status, content, said = self.restore("db@a")
        self.assertEqual((status, content), (1, [0] * 17))
        self.assertIn("but 14 blocks are lost", said)

    def test_what_can_t_be_read_costs_what_needs_it(self):
        for lost in ("pack", "run", "point"):
            with self.subTest(lost=lost):
                pack, other = self.vault.pack(PACK), self.vault.pack([99])
                run = self.vault.run([(0, 17, 0, 0), (17, 1, 1, 0)], [pack, other])
                point = self.vault.commit(self.vault.point([run], 18, snapshot=lost))
                name = {"pack": f"packs/standard/00729/{pack[0].hex()}", "run": f"runs/{run['id']}",
                        "point": f"points/{point}"}[lost]
                os.unlink(self.vault.path(name))
                # Opening it fails as a broken disk would, and not as a missing file.
                os.symlink(os.path.basename(name), self.vault.path(name))
                expected = {"pack": [0] * 17 + [99], "run": [0] * 18, "point": None}[lost]
                self.assertEqual(self.restore(point)[:2], (1, expected))
                status, _, said = self.run_reader("verify")
                self.assertEqual(status, 1)
                self.assertIn(name, said)
                os.unlink(self.vault.path(name))

    def test_a_zstd_frame_has_nothing_beside_it(self):
        for beside in (lambda frame: frame + b"junk", lambda frame: struct.pack("<II", 0x184D2A50, 0) + frame,
                       lambda frame: frame + frame):
            codec_of = lambda content: (1, beside(zstandard.compress(content)))
            run = self.vault.run([(0, 1, 0, 0)], [self.vault.pack([5], codec_of=codec_of)])
            point = self.vault.commit(self.vault.point([run], 1))
            self.assertEqual(self.restore(point)[:2], (1, [0]))

    def test_numbers_that_can_t_be(self):
        for size in (2**63, 2**64, 2**60, -4096, True, 4097):
            with self.subTest(bytes=size):
                point = self.vault.point([], 0, bytes=size)["id"]
                self.assertEqual(self.restore(point)[:2], (1, None))
        for member in ({"frames": -1}, {"stored_bytes": 2**64}, {"generation": "1"}, {"id": 5}):
            with self.subTest(**member):
                run = self.vault.run([(0, 1, HOLE, 0)], [])
                self.assertEqual(self.restore(self.vault.point([{**run, **member}], 1)["id"])[:2], (1, None))
        for runs in (5, [5], [[]]):
            with self.subTest(runs=runs):
                self.assertEqual(self.restore(self.vault.point(runs, 0)["id"])[:2], (1, None))
        self.assertEqual(self.restore(self.vault.point([], 0, key=["x"])["id"])[:2], (1, None))

    def test_what_is_too_long_is_not_read(self):
        self.vault.commit(self.simple_point())
        for name in ("log/0000000000000003", "points/" + "ab" * 32):
            self.vault.put(name, b"")
            os.truncate(self.vault.path(name), 20 << 20)
        status, content, said = self.restore("ab" * 32)
        self.assertEqual((status, content, said.count("it is longer than")), (1, None, 2), said)
        self.assertEqual(self.restore("db@a")[:2], (1, [7]))


class Log(Case):
    def test_a_newer_version_is_believed_only_of_those_who_may_sign(self):
        self.vault.commit(self.simple_point())
        next_entry = "log/0000000000000003"
        self.vault.put(next_entry, b'x\n{"format":3}\n')
        self.assertEqual(self.restore("db@a")[:2], (1, [7]))
        founder, self.vault.signing = self.vault.signing, Ed25519PrivateKey.generate()
        self.vault.log("condemn", format=3, objects=[])
        self.assertEqual(self.restore("db@a")[:2], (1, [7]))
        self.vault.signing, self.vault.number = founder, 2
        with open(self.vault.path("log/0000000000000002"), "rb") as file:
            self.vault.previous = firn_vault.blake3(file.read()).hexdigest()
        self.vault.log("condemn", format=3, objects=[])
        status, _, said = self.restore("db@a")
        self.assertEqual(status, 2)
        self.assertIn("a newer reader is needed", said)

    def test_an_entry_counts_whole_or_not_at_all(self):
        first, second = self.simple_point(), self.simple_point(snapshot="b")
        del second["stored_bytes"]
        self.vault.commit(first, second)
        status, out, said = self.run_reader("list")
        self.assertEqual(status, 1)
        self.assertNotIn("db@", out)
        self.assertIn("log/0000000000000002", said)

    def test_a_member_that_may_be_null_may_be_missing(self):
        point = self.simple_point()
        for member in ("parent", "retain_until_ms", "locked"):
            del point[member]
        self.vault.log("commit", points=[point])
        self.assertEqual(self.restore("db@a")[:2], (0, [7]))

    def test_a_name_that_no_text_can_be_is_damage_and_none_steers_a_terminal(self):
        self.vault.commit(self.simple_point(name="\x1b[2J"))
        status, out, _ = self.run_reader("list")
        self.assertEqual(status, 0)
        self.assertNotIn("\x1b", out)
        self.vault.commit(self.simple_point(name="\ud800"))
        self.assertEqual(self.run_reader("list")[0], 1)

    def test_dates_beyond_all_calendars_are_listed(self):
        self.vault.commit(self.simple_point(retain_until_ms=2**64 - 1))
        status, out, _ = self.run_reader("list")
        self.assertEqual(status, 0)
        self.assertIn("until after the year 9999", out)

    def test_void_entries(self):
        log, point = self.vault.log, self.simple_point(retain_until_ms=10_000)
        self.vault.commit({**point, "locked": {"mode": "governance", "until_ms": 20_000}})
        prune = {"points": [{"id": point["id"], "reason": "x"}] * 2}
        log("prune", **prune)
        log("commit", points=[], group=None)
        log("retain", points=[point["id"]], until_ms=9_999, locked=None)
        log("retain", points=[point["id"]] * 2, until_ms=10_000, locked=None)
        self.assertEqual(self.voided(), [3, 4, 5])
        # Its date has passed, though not that of its lock. What stands twice counts once.
        self.vault.time_ms = 10_000
        log("prune", **prune)
        self.vault.commit(point)
        self.assertEqual(self.voided(), [3, 4, 5])
        self.assertEqual(self.restore("db@a")[:2], (0, [7]))
        name = f"runs/{'ab' * 32}"
        log("condemn", objects=[name, name])
        log("delete", objects=[name, f"points/{point['id']}"])
        log("acquit", objects=[name])
        log("condemn", objects=[f"{name}.1", "keys/" + "01" * 16])
        self.assertEqual(self.voided(), [3, 4, 5, 10, 11, 12])

    def test_a_key_is_not_destroyed_while_what_it_encrypts_is_locked(self):
        self.vault.data_key()
        point = self.vault.point([], 1, key=KEY)
        self.vault.commit({**point, "locked": {"mode": "compliance", "until_ms": 20_000}})
        self.vault.log("prune", points=[{"id": point["id"], "reason": "x"}])
        self.vault.log("destroy_key", id=KEY)
        self.assertEqual(self.voided(), [5])
        self.vault.time_ms = 20_000
        self.vault.log("destroy_key", id=KEY)
        self.assertEqual(self.voided(), [5])

    def test_one_name_in_two_pools_is_asked_about(self):
        self.vault.commit(self.simple_point())
        other = self.vault.commit(self.simple_point(pool="bb" * 16, snapshot="b"))
        for wanted in ("db", "db@a"):
            status, content, said = self.restore(wanted)
            self.assertEqual((status, content), (2, None))
            self.assertIn("more than one pool", said)
        self.assertEqual(self.restore(other)[:2], (0, [7]))

    def test_names_with_a_dot_are_none_of_the_vault_s(self):
        self.vault.commit(self.simple_point())
        for name in ("packs/.staging/x", "runs/.x", "packs/standard/.x/y"):
            self.vault.put(name, b"not finished")
        self.assertEqual(self.run_reader("verify")[0], 0)


class Keys(Case):
    def setUp(self):
        super().setUp()
        self.secret = self.passphrase("moon")

    def encrypted_point(self):
        self.vault.data_key()
        pack = self.vault.pack(PACK, key=KEY)
        self.runs = [self.vault.run([(0, 17, 0, 0)], [pack], key=KEY)]
        return self.vault.commit(self.vault.point(self.runs, 17, key=KEY))

    def test_a_bad_slot_hides_no_good_one(self):
        bad = [{"passes": -1}, {"passes": 65}, {"passes": "1"}, {"memory_kib": 1}, {"memory_kib": 2**21}]
        for number, costs in enumerate(bad, 1):
            self.vault.passphrase_slot(f"{number:032}", b"moon", **costs)
        self.vault.passphrase_slot("f0" * 16, b"moon")
        self.encrypted_point()
        os.mkdir(self.vault.path("keys/x"))
        os.unlink(self.vault.path(f"keys/{1:032}"))
        os.mkdir(self.vault.path(f"keys/{1:032}"))
        status, content, said = self.restore("db@a", *self.secret)
        self.assertEqual((status, content), (1, PACK), said)
        status, _, said = self.restore("db@a", *self.passphrase("sun"))
        self.assertEqual(status, 2)
        self.assertIn(f"keys/{2:032}", said)

    def test_a_slot_that_was_removed_is_not_tried_when_the_log_is_damaged_later(self):
        self.vault.passphrase_slot("01" * 16, b"moon")
        self.vault.passphrase_slot("02" * 16, b"star")
        self.vault.log("remove_slot", id="01" * 16)
        self.encrypted_point()
        self.vault.log("condemn", objects=[])
        self.vault.flip(f"log/{self.vault.number:016}", -10)
        self.assertEqual(self.restore("db@a", *self.secret)[:2], (2, None))
        self.assertEqual(self.restore("db@a", *self.passphrase("star"))[:2], (1, PACK))

    def test_slots_and_keys_are_found_without_a_log(self):
        self.vault.passphrase_slot("01" * 16, b"moon")
        point = self.encrypted_point()
        self.vault.flip("log/0000000000000002", -10)
        self.vault.put(f"keys/{NO_KEY}", b'{"format":9}')
        self.assertEqual(self.restore(point, *self.secret)[:2], (1, PACK))

    def test_without_a_key_verify_misses_runs(self):
        self.vault.passphrase_slot("01" * 16, b"moon")
        self.encrypted_point()
        status, _, said = self.run_reader("verify")
        self.assertEqual(status, 0)
        self.assertIn("db@a: its content was not read, nor which packs it needs", said)
        name = f"runs/{self.runs[0]['id']}"
        os.unlink(self.vault.path(name))
        status, _, said = self.run_reader("verify")
        self.assertEqual(status, 1)
        self.assertIn(f"{name}: it is missing (needed by db@a)", said)


if __name__ == "__main__":
    unittest.main()
