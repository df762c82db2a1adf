//! Tailwake.
fn main() {}
