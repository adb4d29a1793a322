//! What the datapath costs: time per packet, round trips, memory of the kernel.
//!
//! `cargo run --release -p signet-datapath --example bench [-- SECTION...]`, as
//! root; sections are `packets`, `memory` and `roundtrip`, all of them without
//! one. Everything is made in namespaces of its own and gone afterwards.

mod memory;
mod packets;
mod roundtrip;
mod site;

use std::error::Error;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Section = (&'static str, fn() -> Outcome<()>);

fn main() -> Outcome<()> {
    let sections: [Section; 3] = [
        ("packets", packets::measure),
        ("memory", memory::measure),
        ("roundtrip", roundtrip::measure),
    ];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|name| !sections.iter().any(|(s, _)| s == name)) {
        return Err(format!("no section `{unknown}`: packets, memory or roundtrip").into());
    }
    for (name, measure) in sections {
        if wanted.is_empty() || wanted.iter().any(|section| section == name) {
            measure()?;
            println!();
        }
    }
    Ok(())
}
