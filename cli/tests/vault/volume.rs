//! A volume whose content the test knows, and what is done to it between two sends.

use crate::shell::{Shell, noise};

pub(crate) const MIB: usize = 1 << 20;

/// The volume `pg` of `mib` MiB of noise, and that noise.
pub(crate) fn filled(shell: &Shell, mib: usize) -> Vec<u8> {
    let content = noise(1, mib * MIB);
    shell.write("content", &content);
    shell.done(&["import", "content", "pg"]);
    content
}

/// Changes these blocks of a volume, and of what is known of it.
pub(crate) fn change(shell: &Shell, volume: &str, content: &mut [u8], blocks: &[usize]) {
    for block in blocks {
        content[block * 4096] ^= 1;
    }
    shell.write("content", content);
    shell.done(&["import", "content", volume, "--overwrite"]);
}

/// A vault in the directory `vault`, known as `main`.
pub(crate) fn vault(shell: &Shell) {
    shell.done(&["vault", "init", "main", "./vault"]);
}

/// The first line that a command printed on stdout.
pub(crate) fn first_line(text: &str) -> &str {
    text.lines().next().expect("a line")
}
