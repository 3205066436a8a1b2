//! The API as its clients see it: over TLS, on a server in this process.

mod access;
mod answers;
mod discovery;
mod protobuf;
mod subresources;
mod support;
mod verbs;
mod watches;
