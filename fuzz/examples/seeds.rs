//! Writes each target's seeds where libFuzzer looks for inputs: `seeds FOLDER` makes `FOLDER/TARGET/seed-N`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("fuzz/corpus"), PathBuf::from);
    for (target, _) in firn_fuzz::TARGETS {
        std::fs::create_dir_all(folder.join(target))?;
        for (number, seed) in firn_fuzz::seeds(target).iter().enumerate() {
            std::fs::write(folder.join(target).join(format!("seed-{number}")), seed)?;
        }
    }
    Ok(())
}
