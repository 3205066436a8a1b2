//! What a device was given once and cannot do without, kept a second time: cards lose bits.
//!
//! ```text
//! DIR/identity/joined    SHA-256 ‖ (name, bytes) of cluster, ca.der, fleet-root and key.der
//!
//! joined   whole: what it says is in force, and a file that says something else is mended
//!          lost:  the files are in force, and it is made of them
//! ```
//!
//! Guarantees:
//! - one damaged file costs nothing, whichever it is, and is named (`one_damaged_file_costs_nothing_and_is_named`);
//! - what is damaged is never kept for good (`a_cut_ca_is_named_and_never_copied`).

use std::fs;
use std::io;
use std::path::Path;

use freewheel_link::digest::Digest;
use freewheel_link::tls;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::data::write_whole;

/// What stays as it is for as long as the device belongs to its hub.
const PARTS: [&str; 4] = ["cluster", "ca.der", "fleet-root", "key.der"];
const NAME: &str = "joined";

/// A copy that is whole.
pub(super) struct Copy(Vec<(String, Vec<u8>)>);

impl Copy {
    /// The copy, if it is whole.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let bytes = fs::read(dir.join(NAME)).ok()?;
        let (sum, body) = bytes.split_first_chunk::<32>()?;
        if Digest::of(body).0 != *sum {
            return None;
        }
        postcard::from_bytes(body).ok().map(Self)
    }

    /// A part, as it was given.
    pub(super) fn part(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(held, _)| held == name).map(|(_, bytes)| bytes.as_slice())
    }
}

/// Makes the copy of what is there, if that is whole as far as can be seen.
pub(super) fn make(dir: &Path) -> io::Result<()> {
    let part = |name: &str| {
        let bytes = fs::read(dir.join(name))?;
        let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("{name} is damaged"));
        is_whole(name, &bytes).then(|| (name.to_owned(), bytes)).ok_or_else(odd)
    };
    let parts = PARTS.into_iter().map(part).collect::<io::Result<Vec<_>>>()?;
    let body = postcard::to_stdvec(&parts).map_err(io::Error::other)?;
    let mut bytes = Digest::of(&body).0.to_vec();
    bytes.extend(body);
    write_whole(&dir.join(NAME), &bytes)
}

fn is_whole(name: &str, bytes: &[u8]) -> bool {
    match name {
        "ca.der" => tls::key_hash(&CertificateDer::from(bytes)).is_ok(),
        "fleet-root" => bytes.len() == 32,
        "key.der" => {
            let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(bytes));
            rcgen::KeyPair::try_from(&der).is_ok()
        }
        _ => !bytes.is_empty(),
    }
}

/// Names of the files that are not as they were written.
pub(super) fn damaged(dir: &Path) -> Vec<&'static str> {
    let Some(copy) = Copy::read(dir) else { return vec![NAME] };
    let differs = |name: &&str| fs::read(dir.join(name)).ok().as_deref() != copy.part(name);
    PARTS.into_iter().filter(differs).collect()
}

/// Writes what is damaged anew.
pub(super) fn mend(dir: &Path) -> io::Result<()> {
    let Some(copy) = Copy::read(dir) else { return make(dir) };
    for name in damaged(dir) {
        if let Some(bytes) = copy.part(name) {
            write_whole(&dir.join(name), bytes)?;
        }
    }
    Ok(())
}
