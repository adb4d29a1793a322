//! Compiles kernel programs, the same way wherever xtask does it.
//!
//! The datapath's build script compiles them for shipping; here they are
//! compiled for their BTF and for their warnings.

use std::path::Path;
use std::process::Command;

use crate::{process, repository};

/// Debian 12's default clang (14) lacks BPF features that the programs use.
const CLANG: &str = "clang-19";

/// `clang` on one source file with BTF, including from `bpf/`, written to `object`.
pub fn compile(source: &Path, object: &Path) -> Command {
    let mut command = process::command(CLANG);
    command
        .args(["-target", "bpf", "-mcpu=v3", "-g", "-O2", "-c"])
        .arg("-I")
        .arg(repository::root().join("bpf"))
        // `asm/types.h` lies in the multiarch directory, which `-target bpf` does not search.
        .arg("-idirafter")
        .arg(format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(format!("-D__TARGET_ARCH_{}", kernel_architecture()))
        .arg("-o")
        .arg(object)
        .arg(source);
    command
}

/// The kernel's name for the architecture that this program was built for.
fn kernel_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => other,
    }
}
