//! Compiles the kernel programs. Knows only how to call clang; what they do is in `bpf/`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Features of packages that are this crate in another layout, for tests; none: ours.
const LAYOUTS: [(&str, &str); 2] = [
    ("CARGO_FEATURE_LAYOUT_NEXT", "-DSG_LAYOUT_AHEAD=1"),
    ("CARGO_FEATURE_LAYOUT_OTHER", "-DSG_LAYOUT_AHEAD=2"),
];

/// Debian 12's own `clang` is 14; kernel code is compiled and checked with this one.
const COMPILERS: [&str; 2] = ["clang-19", "clang"];

fn main() -> Result<(), String> {
    let crate_dir = PathBuf::from(env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?);
    let bpf = crate_dir
        .ancestors()
        .map(|folder| folder.join("bpf"))
        .find(|bpf| bpf.join("signet.bpf.c").exists())
        .ok_or("no folder `bpf` above this crate")?;
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?);
    println!("cargo:rerun-if-changed={}", bpf.display());
    // The second one only adds to the first what `examples/bench` needs; the third is for
    // a test.
    for name in ["signet.bpf", "bench.bpf", "steer.bpf"] {
        build(&bpf.join(format!("{name}.c")), &bpf, &out.join(format!("{name}.o")))?;
    }
    Ok(())
}

fn build(source: &Path, bpf: &Path, out: &Path) -> Result<(), String> {
    let mut failures = Vec::new();
    for compiler in COMPILERS {
        match compile(compiler, source, bpf, out) {
            Ok(()) => return Ok(()),
            Err(failure) => failures.push(format!("{compiler}: {failure}")),
        }
    }
    Err(format!("cannot compile {}: {}", source.display(), failures.join("; ")))
}

fn compile(compiler: &str, source: &Path, bpf: &Path, out: &Path) -> Result<(), String> {
    let run = Command::new(compiler)
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-Wall", "-Wextra", "-Werror"])
        .arg("-Wno-missing-field-initializers")
        .args(LAYOUTS.iter().filter(|(feature, _)| env::var(feature).is_ok()).map(|(_, arg)| arg))
        .arg("-I")
        .arg(bpf)
        .args(["-I", "/usr/include/x86_64-linux-gnu", "-I", "/usr/include/aarch64-linux-gnu"])
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(out)
        .output()
        .map_err(|error| format!("{error} (install clang-19 and libbpf-dev)"))?;
    if run.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&run.stderr).into_owned())
}
