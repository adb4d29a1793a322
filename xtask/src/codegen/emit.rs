//! The Rust text of the shared types. Knows Rust's syntax, not where the types come from.

use std::fmt::Write;

use super::comments::Comments;
use super::layout::{Shape, Struct, Types};

const HEADER: &str = "\
//! Types that the kernel programs and user space share.
//!
//! Generated from the BTF of `bpf/abi/anchor.bpf.c` by `cargo xtask codegen`; do
//! not edit. Any bytes are a valid value of every struct, so none is ever trusted
//! to hold a known constant.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
";

/// Names that Rust keeps for itself and C does not.
const KEYWORDS: &[&str] = &["fn", "impl", "in", "loop", "match", "mod", "move", "ref", "type"];

/// A whole module, not yet formatted.
pub fn module(types: &Types, comments: &Comments) -> String {
    let mut text = HEADER.to_owned();
    for (name, constants) in &types.enums {
        enumeration(&mut text, name, constants, comments);
    }
    for (name, layout) in &types.structs {
        structure(&mut text, name, layout, comments);
    }
    text
}

// Writing to a String cannot fail.

fn structure(text: &mut String, name: &str, layout: &Struct, comments: &Comments) {
    let rust = camel_case(name);
    let size = layout.size;
    doc(text, comments.about(name).unwrap_or_default(), &format!("`struct {name}`."));
    let _ = writeln!(
        text,
        "#[derive(Clone, Copy, Debug, Eq, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout)]\n\
         #[repr(C)]\npub struct {rust} {{"
    );
    for field in &layout.fields {
        let said = comments.about(&format!("{name}.{}", field.name));
        let fallback = if field.name.starts_with("pad") { "Zero." } else { "" };
        let order = if field.network_order { "Network byte order." } else { "" };
        let plain = format!("Field `{}`.", field.name);
        let said = match (said.unwrap_or(fallback), order) {
            ("", "") => plain,
            ("", order) => order.to_owned(),
            (said, "") => said.to_owned(),
            (said, order) => format!("{said} {order}"),
        };
        let _ = writeln!(text, "/// {said}");
        let _ = writeln!(text, "pub {}: {},", identifier(&field.name), rust_type(&field.shape));
    }
    let _ = writeln!(text, "}}\n\nconst _: () = assert!(size_of::<{rust}>() == {size});");
}

fn enumeration(text: &mut String, name: &str, constants: &[(String, u32)], comments: &Comments) {
    doc(text, comments.about(name).unwrap_or_default(), &format!("Values of `enum {name}`."));
    let _ = writeln!(text, "pub mod {} {{", identifier(&short_name(name)));
    let mut list = String::new();
    for (constant, value) in constants {
        let short = short_constant(name, constant);
        let said = comments.about(&format!("{name}.{constant}"));
        let _ = writeln!(text, "/// {}", said.unwrap_or(&format!("`{constant}`.")));
        let _ = writeln!(text, "pub const {short}: u32 = {value};");
        let _ = write!(list, "(\"{short}\", {value}),");
    }
    let _ = writeln!(text, "/// Every name with its value.");
    let _ = writeln!(text, "pub const ALL: &[(&str, u32)] = &[{list}];\n}}");
}

/// `said`, then on a line of its own what it is in C.
fn doc(text: &mut String, said: &str, origin: &str) {
    let _ = match said {
        "" => writeln!(text, "\n/// {origin}"),
        said => writeln!(text, "\n/// {said}\n///\n/// {origin}"),
    };
}

fn rust_type(shape: &Shape) -> String {
    match shape {
        Shape::Integer { bits, signed: true } => format!("i{bits}"),
        Shape::Integer { bits, signed: false } => format!("u{bits}"),
        Shape::Array(element, length) => format!("[{}; {length}]", rust_type(element)),
        Shape::Struct(name) => camel_case(name),
    }
}

fn short_name(name: &str) -> String {
    name.strip_prefix("sg_").unwrap_or(name).to_owned()
}

fn camel_case(name: &str) -> String {
    let mut camel = String::new();
    for word in short_name(name).split('_') {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.extend(letters);
    }
    camel
}

/// `SG_DROP_POLICY` of `sg_drop_reason` is `POLICY`: what the enum's name says already goes.
fn short_constant(owner: &str, constant: &str) -> String {
    let mut rest = constant.strip_prefix("SG_").unwrap_or(constant);
    for word in short_name(owner).to_uppercase().split('_') {
        let shorter = rest.strip_prefix(word).and_then(|rest| rest.strip_prefix('_'));
        match shorter {
            Some(shorter) if shorter.starts_with(|c: char| c.is_ascii_alphabetic()) => {
                rest = shorter;
            }
            _ => break,
        }
    }
    rest.to_owned()
}

fn identifier(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("r#{name}") } else { name.to_owned() }
}
