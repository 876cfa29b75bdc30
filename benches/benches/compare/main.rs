//! What the engine reaches, beside fio on a raw file of the same file system in the same run.
//!
//! `cargo bench -p firn-benches --bench compare -- write-flush` runs the works whose name contains an argument; none
//! runs all. See `settings` for the environment variables.

mod figure;
mod load;
mod pairs;
mod place;
mod process;
mod random;
mod raw;
mod settings;
mod table;
mod works;

use std::path::Path;

use anyhow::Result;

fn main() -> Result<()> {
    if let [_, compact, folder] = &std::env::args().collect::<Vec<_>>()[..]
        && compact == works::COMPACT
    {
        return works::compact(Path::new(folder));
    }
    let settings = settings::Settings::read()?;
    // cargo adds `--bench`.
    let wanted: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let mut rows = Vec::new();
    for (name, run) in works::WORKS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            println!("{name}");
            rows.extend(run(&settings)?);
        }
    }
    println!();
    table::print(&rows);
    Ok(())
}
