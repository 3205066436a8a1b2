//! Every chore of the project: `cargo xtask NAME`.
fn main() {}
