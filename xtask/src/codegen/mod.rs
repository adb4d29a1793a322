//! Generates crate `abi` from the BTF of `bpf/abi/anchor.bpf.c`.
//!
//! BTF is what the kernel programs are really compiled to, so the Rust types
//! cannot drift from it by a misread header. Comments are not in BTF: they are
//! carried over from the headers' text, and nothing depends on them.

mod comments;
mod emit;
mod layout;

use std::path::{Path, PathBuf};
use std::{fs, io};

use libbpf_rs::btf::Btf;

use crate::{clang, process, repository};

/// Why the types could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The anchor does not compile, or the result cannot be formatted.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// A file cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The object is not what clang should have made.
    #[error("`{}` holds no BTF: was it compiled with -g?", path.display())]
    NoBtf {
        /// The anchor.
        path: PathBuf,
    },
    /// libbpf cannot read the BTF.
    #[error("cannot read the BTF of `{}`", path.display())]
    Btf {
        /// The anchor.
        path: PathBuf,
        /// Why not.
        #[source]
        source: libbpf_rs::Error,
    },
    /// A shared type has no faithful Rust form.
    #[error(transparent)]
    Layout(#[from] layout::Refusal),
    /// The committed file is not what the anchor says.
    #[error("`{}` is stale: run `cargo xtask codegen` and commit the result", path.display())]
    Stale {
        /// The generated file.
        path: PathBuf,
    },
}

/// Where the types go, of this version and of those that exist only for tests, and
/// how far ahead of this one each is.
const GENERATED: [(&str, u32); 3] = [
    ("crates/abi/src/generated.rs", 0),
    ("tests/layouts/next-abi/src/generated.rs", 1),
    ("tests/layouts/other-abi/src/generated.rs", 2),
];

/// Writes the generated files, or with `check` only compares them.
pub fn run(check: bool) -> Result<(), Error> {
    GENERATED.iter().try_for_each(|(path, ahead)| write(path, *ahead, check))
}

fn write(path: &str, ahead: u32, check: bool) -> Result<(), Error> {
    let anchor = repository::root().join("bpf/abi/anchor.bpf.c");
    let generated = repository::root().join(path);
    let fresh = generate(&anchor, ahead)?;
    let committed = fs::read_to_string(&generated).unwrap_or_default();
    match (fresh == committed, check) {
        (true, _) => Ok(()),
        (false, true) => Err(Error::Stale { path: generated }),
        (false, false) => fs::write(&generated, fresh)
            .map_err(|source| Error::File { path: generated.clone(), source }),
    }
}

/// The text of the Rust module for the types that `anchor` refers to.
fn generate(anchor: &Path, ahead: u32) -> Result<String, Error> {
    let at = |path: &Path| {
        let path = path.to_path_buf();
        move |source| Error::File { path, source }
    };
    let scratch = tempfile::tempdir().map_err(at(&std::env::temp_dir()))?;
    let object = scratch.path().join("anchor.o");
    let define = format!("-DSG_LAYOUT_AHEAD={ahead}");
    process::output(clang::compile(anchor, &object).arg(define))?;
    let bytes = fs::read(&object).map_err(at(&object))?;
    let btf = Btf::from_raw("anchor", &bytes)
        .map_err(|source| Error::Btf { path: anchor.to_path_buf(), source })?
        .ok_or_else(|| Error::NoBtf { path: anchor.to_path_buf() })?;
    let types = layout::read(&btf)?;

    let mut docs = comments::Comments::default();
    let headers = anchor.parent().unwrap_or(anchor);
    for header in repository::files(headers, ".h").map_err(at(headers))? {
        docs.read(&fs::read_to_string(&header).map_err(at(&header))?);
    }

    let raw = scratch.path().join("generated.rs");
    fs::write(&raw, emit::module(&types, &docs)).map_err(at(&raw))?;
    let config = repository::root().join("rustfmt.toml");
    let mut rustfmt = process::command("rustfmt");
    process::output(rustfmt.arg("--config-path").arg(config).arg(&raw))?;
    fs::read_to_string(&raw).map_err(at(&raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Generates from an anchor that includes `source` as its only header.
    fn from_source(source: &str) -> Result<String, Error> {
        let directory = tempfile::tempdir().unwrap();
        let header = directory.path().join("sample.h");
        let anchor = directory.path().join("anchor.bpf.c");
        fs::write(&header, source).unwrap();
        fs::write(&anchor, "#include <linux/types.h>\n#include \"sample.h\"\n").unwrap();
        generate(&anchor, 0)
    }

    #[track_caller]
    fn check(source: &str, expected: &[&str]) {
        let generated = from_source(source).unwrap();
        for line in expected {
            assert!(generated.contains(line), "no `{line}` in:\n{generated}");
        }
    }

    #[track_caller]
    fn check_refused(source: &str, expected: &str) {
        let refusal = from_source(source).unwrap_err().to_string();
        assert!(refusal.contains(expected), "`{expected}` is not in `{refusal}`");
    }

    #[test]
    fn abi_is_fresh() {
        run(true).unwrap();
    }

    #[test]
    fn a_struct_becomes_a_repr_c_struct_with_its_size_asserted() {
        check(
            "struct sg_flow_key { __u32 id; __s16 delta; __u8 pad[2]; }; struct sg_flow_key abi_key;",
            &[
                "#[repr(C)]\npub struct FlowKey {",
                "pub id: u32,",
                "pub delta: i16,",
                "pub pad: [u8; 2],",
                "size_of::<FlowKey>() == 8",
            ],
        );
    }

    #[test]
    fn a_struct_that_only_another_one_uses_is_generated_too() {
        check(
            "struct sg_end { __u8 mac[6]; }; struct sg_pair { struct sg_end ends[2]; };\n\
             struct sg_pair abi_pair;",
            &["pub struct End {", "pub mac: [u8; 6],", "pub ends: [End; 2],"],
        );
    }

    #[test]
    fn network_byte_order_is_said_in_the_documentation() {
        check(
            "struct sg_key {\n__be16 port; /* of the server */\n};\nstruct sg_key abi_key;",
            &["/// Of the server. Network byte order.\n", "pub port: u16,"],
        );
    }

    #[test]
    fn an_enum_becomes_constants_without_the_prefix_that_its_name_gives() {
        check(
            "enum sg_drop_reason { SG_DROP_NONE = 0, SG_DROP_POLICY = 133 };\n\
             enum sg_drop_reason abi_reason;",
            &[
                "pub mod drop_reason {",
                "pub const POLICY: u32 = 133;",
                "(\"NONE\", 0)",
                "(\"POLICY\", 133)",
            ],
        );
    }

    #[test]
    fn comments_of_the_header_become_documentation() {
        check(
            "/* Who sends. */\nstruct sg_sender {\n\t__u32 id;\t/* unique on\n\t\t\t * the node */\n};\n\
             struct sg_sender abi_sender;",
            &["/// Who sends.\n", "/// Unique on the node.\n"],
        );
    }

    #[test]
    fn what_nothing_refers_to_is_not_generated() {
        let generated =
            from_source("struct sg_a { __u32 x; }; struct sg_a abi_a; struct sg_b { __u32 y; };");
        assert!(!generated.unwrap().contains("struct B"));
    }

    #[test]
    fn implicit_padding_is_refused() {
        check_refused(
            "struct sg_key { __u8 a; __u32 b; }; struct sg_key abi_key;",
            "`sg_key` has 3 bytes of implicit padding before `b`",
        );
        check_refused(
            "struct sg_key { __u32 a; __u8 b; }; struct sg_key abi_key;",
            "`sg_key` has 3 bytes of implicit padding at its end",
        );
    }

    #[test]
    fn types_without_a_fixed_form_are_refused() {
        check_refused(
            "struct sg_k { __u32 a : 3; __u32 b : 29; }; struct sg_k abi_k;",
            "bit-field",
        );
        check_refused("union sg_u { __u32 a; }; struct sg_k { union sg_u u; } abi_k;", "union");
        check_refused("struct sg_k { union { __u32 a; }; } abi_k;", "no name");
        check_refused("struct sg_k { void *p; } abi_k;", "pointer");
        check_refused("enum sg_e { SG_E_BELOW = -1 }; enum sg_e abi_e;", "negative");
    }
}
