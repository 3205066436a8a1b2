//! The kinds that are built in, beside those of a kube-apiserver.

mod columns;
#[path = "kinds/main.rs"]
mod kinds;
mod openapi;
mod resources;
