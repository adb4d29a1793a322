//! Where things lie in the repository. Does not know what is in them.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// The repository that this program was built from.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// Cargo's target directory; everything that xtask keeps between runs lies under it.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Programs that `.ci/bootstrap` installs for this repository only.
pub fn tools() -> PathBuf {
    root().join("target/tools/bin")
}

/// Every file below `directory` whose name ends in `suffix`, sorted.
pub fn files(directory: &Path, suffix: &str) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_path_buf()];
    while let Some(place) = open.pop() {
        for entry in fs::read_dir(place)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else if path.to_string_lossy().ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
