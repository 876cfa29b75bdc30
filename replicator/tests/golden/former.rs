//! The library and the independent reader agree on what a `forward` can't be, and on points that left before their time.

use std::sync::Arc;

use firn_replicator::store::DirectoryStore;
use firn_replicator::vault::{OpenOptions, Vault};

use crate::content;
use crate::files::write;
use crate::python::Reader;
use crate::script;

#[test]
fn the_reader_knows_what_is_void_and_what_is_kept_as_the_library_does() {
    let directory = tempfile::tempdir().expect("a directory");
    let (objects, [monday, pruned]) = script::former();
    write(directory.path(), &objects);
    let reader = Reader::new();
    let listed = reader.run("list", directory.path(), &[]);
    assert_eq!(listed.status, 0, "{listed:?}");
    let listed = String::from_utf8(listed.out).expect("text");

    let store = Arc::new(DirectoryStore::open(directory.path()).expect("a store"));
    let vault = Vault::open(store, OpenOptions::default()).expect("a vault");
    let catalog = vault.catalog();
    let void: Vec<u64> = catalog.void().iter().map(|void| void.number).collect();
    assert_eq!(void.len(), 20, "{:?}", catalog.void());
    for number in 1..=catalog.head().number {
        let is_void = listed.contains(&format!("log entry {number} counts for nothing"));
        assert_eq!(is_void, void.contains(&number), "entry {number}");
    }
    let former = catalog.former();
    assert_eq!(former.len(), 3, "{former:?}");
    for former in former {
        let holds: Vec<String> = former.holds.keys().map(|reason| format!("held: {reason}, ")).collect();
        let line = format!(
            "former/{} left the vault by entry {}: {}until",
            former.id.short(),
            former.left,
            holds.concat()
        );
        assert!(listed.contains(&line), "{line} is not in\n{listed}");
    }
    assert_eq!(listed.matches("former/").count(), 3);

    for (id, held) in [(monday, "64a"), (pruned, "4l")] {
        let said = reader.run("restore", directory.path(), &[&format!("former/{}", id.short()), "--to", "-"]);
        assert_eq!(said.status, 0, "{said:?}");
        let mut restored = vec![0; said.out.len()];
        vault.open_former(id).and_then(|point| point.read_at(0, &mut restored)).expect("readable");
        assert_eq!(said.out, restored);
        assert!(content::describe(&restored).starts_with(held), "{}", content::describe(&restored));
    }
}
