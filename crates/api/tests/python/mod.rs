//! Python with the packages that tests of another make need.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where the scripts lie, for the tests of every crate.
pub const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../api/tests/protocol");

/// The client's Python and the code generated for it; `None` where its packages
/// cannot be had, which only a developer's machine may say.
pub fn client() -> Option<(PathBuf, PathBuf)> {
    let scripts = Path::new(SCRIPTS);
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python");
    let setup =
        Command::new(scripts.join("setup")).arg(&home).stderr(Stdio::inherit()).output().unwrap();
    if setup.status.success() {
        let python = String::from_utf8(setup.stdout).unwrap();
        return Some((python.trim().into(), home.join("generated")));
    }
    assert!(std::env::var_os("CI").is_none(), "the client's packages cannot be had");
    eprintln!("not run: the client's packages cannot be had");
    None
}
