//! Namespaces: what each has from the start, which ones each cluster has, and how they end.
//!
//! ```text
//! furniture   namespaces and the Service `kubernetes` of every cluster
//! welcome     ServiceAccount `default` and ConfigMap `kube-root-ca.crt` of every namespace
//! ending      deletes the content of a namespace that goes, then lets it go
//! ```

mod ending;
mod furniture;
mod welcome;

pub use ending::Ending;
pub use furniture::Furniture;
pub use welcome::Welcome;
