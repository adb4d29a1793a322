//! The `signet` command: parses, wires, runs. What it does lives in the crates it calls.
fn main() {}
