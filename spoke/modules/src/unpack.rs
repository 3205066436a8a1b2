//! zstd → the artifact, never more bytes than were signed.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write as _};
use std::path::Path;

use freewheel_link::artifact::{Envelope, PublicKey, Untrusted};
use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use sha2::{Digest as _, Sha256};

use crate::ModuleError;
use crate::files::{Names, Scratch, sync_dir, write_synced};

const READ_CHUNK_BYTES: usize = 64 << 10;

/// Unpacks what came in, checks it against its envelope, and gives both their names. Blocking.
pub(crate) fn unpack(
    names: &Names,
    scratch: &Scratch,
    envelope: &Envelope,
) -> Result<(), ModuleError> {
    unpack_checked(scratch, envelope)?;
    let text =
        postcard::to_stdvec(envelope).map_err(|error| ModuleError::Packed(error.to_string()))?;
    write_synced(&scratch.envelope, &text).map_err(ModuleError::Disk)?;
    // The envelope first: one alone is swept away with the leftovers, and an artifact that is there counts as kept. Both
    // names last with one sync of their folder.
    fs::rename(&scratch.envelope, &names.envelope).map_err(ModuleError::Disk)?;
    fs::rename(&scratch.temporary, &names.artifact).map_err(ModuleError::Disk)?;
    sync_dir(&names.artifact).map_err(ModuleError::Disk)
}

fn unpack_checked(scratch: &Scratch, envelope: &Envelope) -> Result<(), ModuleError> {
    let packed = File::open(&scratch.part).map_err(ModuleError::Disk)?;
    let decoder = ruzstd::decoding::StreamingDecoder::new(BufReader::new(packed))
        .map_err(|error| ModuleError::Packed(error.to_string()))?;
    let mut out = BufWriter::new(File::create(&scratch.temporary).map_err(ModuleError::Disk)?);
    // One byte more than signed is enough to know that it is wrong.
    let mut bytes = decoder.take(envelope.size + 1);
    let mut hash = Sha256::new();
    let mut size = 0_u64;
    let mut piece = vec![0; READ_CHUNK_BYTES];
    loop {
        let read = match bytes.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(ModuleError::Packed(error.to_string())),
        };
        hash.update(&piece[..read]);
        size += read as u64;
        out.write_all(&piece[..read]).map_err(ModuleError::Disk)?;
    }
    if size != envelope.size || Digest(hash.finalize().into()) != envelope.artifact {
        return Err(Untrusted::Bytes.into());
    }
    let file = out.into_inner().map_err(|error| ModuleError::Disk(error.into_error()))?;
    // Before it has its name: what has one is whole.
    file.sync_all().map_err(ModuleError::Disk)
}

/// Whether a module that lies on disk may be used: its envelope holds and its bytes are those that were signed.
/// A signing key that has expired since is no reason: an offline device goes on with what it has. Blocking.
pub(crate) fn verify(
    names: &Names,
    root: &PublicKey,
    component: &Digest,
    profile: Profile,
) -> Result<(), ModuleError> {
    let text = fs::read(&names.envelope).map_err(ModuleError::Disk)?;
    let envelope: Envelope =
        postcard::from_bytes(&text).map_err(|error| ModuleError::Packed(error.to_string()))?;
    envelope.verify(root, component, profile, None)?;
    let (size, digest) = digest(&names.artifact).map_err(ModuleError::Disk)?;
    if size != envelope.size || digest != envelope.artifact {
        return Err(Untrusted::Bytes.into());
    }
    Ok(())
}

fn digest(path: &Path) -> io::Result<(u64, Digest)> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let size = io::copy(&mut file, &mut hash)?;
    Ok((size, Digest(hash.finalize().into())))
}
