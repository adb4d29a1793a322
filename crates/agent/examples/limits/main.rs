//! What an agent needs to follow a change, and what it takes of memory.
//!
//! `cargo run --release -p signet-agent --example limits [-- SECTION...]`, as root;
//! sections are `change` and `memory`, both without one. The agent is a process of its
//! own: this program once more. Everything is made in namespaces and gone afterwards.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a benchmark")]

mod change;
mod memory;
mod site;

type Section = (&'static str, fn());

fn main() {
    let sections: [Section; 2] = [("change", change::measure), ("memory", memory::measure)];
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let [site::AGENT, folder] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return site::run_agent(folder.as_ref());
    }
    if let Some(unknown) = wanted.iter().find(|name| !sections.iter().any(|(s, _)| s == name)) {
        panic!("no section `{unknown}`: change or memory");
    }
    site::unshare_all();
    for (name, measure) in sections {
        if wanted.is_empty() || wanted.iter().any(|section| section == name) {
            measure();
            println!();
        }
    }
}
