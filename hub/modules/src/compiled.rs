//! Compiled modules on the hub's disk: `<component>-<profile>-<build>.zst`, and beside it a note in JSON; or, where
//! there will be none, why not: `<component>-<profile>-<build>.why`.
//!
//! Guarantees:
//! - an artifact without its note, and what a compiler that was killed left, go at the next start
//!   (`halves_of_an_earlier_run_go_at_the_start_and_wholes_stay`);
//! - an artifact whose bytes are not those that were made is not handed out
//!   (`a_flipped_bit_in_an_artifact_or_its_note_is_noticed`, `a_damaged_artifact_is_compiled_again`);
//! - a failure that would come again is kept (`a_failure_is_kept_over_a_restart_until_it_is_forgotten`), for a day
//!   where that is a guess (`where_the_compiler_stumbled_it_tries_again_in_a_day`).

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use freewheel_link::digest::Digest;
use freewheel_link::profile::Profile;
use sha2::{Digest as _, Sha256};

use crate::compile::{COMPILER_BUILD, CompileError, Made};
use crate::disk_reserve::DiskReserve;
use crate::durable::{remove, replace};

/// How long a module is let be that the compiler has stumbled over: the cause may have been the machine's.
const FAILURE_KEPT_FOR: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything of one compilation in the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    /// The files' common name.
    pub(crate) stem: String,
    /// What was compiled.
    pub(crate) component: Digest,
    /// Whether this hub's compiler and engine settings made it.
    pub(crate) current: bool,
    /// Whether artifact and note are there, or why there will be none.
    pub(crate) whole: bool,
    /// Bytes of its files.
    pub(crate) bytes: u64,
    /// Since its newest file was written; zero where the clock does not know.
    pub(crate) idle: Duration,
}

/// The folder.
pub(crate) struct Compiled {
    dir: PathBuf,
    /// What it takes of the disk has an end.
    pub(crate) room: DiskReserve,
}

impl Compiled {
    /// Opens the folder and drops halves of an earlier run: nobody goes on with them.
    pub(crate) fn open(dir: &Path) -> io::Result<Self> {
        let dir = dir.join("compiled");
        std::fs::create_dir_all(&dir)?;
        let compiled = Self { room: DiskReserve::new(&dir), dir };
        for half in compiled.list()?.iter().filter(|found| !found.whole) {
            compiled.remove(&half.stem)?;
        }
        Ok(compiled)
    }

    /// Where this build's artifact is or would be.
    pub(crate) fn path(&self, component: &Digest, profile: Profile) -> PathBuf {
        self.dir.join(format!("{}-{profile}-{COMPILER_BUILD}.zst", component.hex()))
    }

    /// What is known of an artifact that is there.
    pub(crate) fn note(&self, artifact: &Path) -> Option<Made> {
        let made: Made = serde_json::from_slice(&std::fs::read(note_of(artifact)).ok()?).ok()?;
        // Somebody may have tidied up by hand.
        (made.build == COMPILER_BUILD && artifact.exists()).then_some(made)
    }

    /// Whether an artifact is what its note says, byte by byte. Blocking.
    pub(crate) fn is_whole(artifact: &Path, made: &Made) -> io::Result<bool> {
        let mut unpacked = zstd::Decoder::new(std::fs::File::open(artifact)?)?;
        let (mut hash, mut size, mut piece) = (Sha256::new(), 0, vec![0; 256 << 10]);
        loop {
            match unpacked.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => {
                    hash.update(&piece[..read]);
                    size += read as u64;
                }
                // What cannot be unpacked is not what was packed.
                Err(_) => return Ok(false),
            }
        }
        Ok(size == made.size && Digest(hash.finalize().into()).to_string() == made.digest)
    }

    /// Why there will be no artifact, if that is known.
    pub(crate) fn failure(&self, artifact: &Path) -> Option<CompileError> {
        let text = std::fs::read_to_string(why_of(artifact)).ok()?;
        match text.split_once('\n')? {
            ("refused", why) => Some(CompileError::Refused(why.to_owned())),
            ("beyond", why) => Some(CompileError::Beyond(why.to_owned())),
            ("stumbled", why) => {
                let at =
                    std::fs::metadata(why_of(artifact)).and_then(|meta| meta.modified()).ok()?;
                // One of the clock's future is as good as old.
                let age = SystemTime::now().duration_since(at).ok()?;
                (age < FAILURE_KEPT_FOR).then(|| CompileError::Stumbled(why.to_owned()))
            }
            _ => None,
        }
    }

    /// Keeps a failure that the next try would meet as well.
    pub(crate) fn write_failure(&self, artifact: &Path, error: &CompileError) -> io::Result<()> {
        let text = match error {
            CompileError::Refused(why) => format!("refused\n{why}"),
            CompileError::Beyond(why) => format!("beyond\n{why}"),
            CompileError::Stumbled(why) => format!("stumbled\n{why}"),
            CompileError::Profile(_)
            | CompileError::Died(_)
            | CompileError::Damaged(_)
            | CompileError::Lost(_)
            | CompileError::Full
            | CompileError::Trouble(_)
            | CompileError::Hub(_) => return Ok(()),
        };
        replace(&why_of(artifact), text.as_bytes())
    }

    /// Forgets a failure; whether there was one.
    pub(crate) fn forget_failure(&self, artifact: &Path) -> io::Result<bool> {
        remove(&why_of(artifact))
    }

    /// Makes an artifact known.
    pub(crate) fn write_note(&self, artifact: &Path, made: &Made) -> io::Result<()> {
        replace(&note_of(artifact), &serde_json::to_vec(made).map_err(io::Error::other)?)
    }

    /// Everything in the folder. Files that are not ours are left alone.
    pub(crate) fn list(&self) -> io::Result<Vec<Listed>> {
        let now = SystemTime::now();
        let mut files: BTreeMap<String, Files> = BTreeMap::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let (Some((stem, extension)), Ok(meta)) =
                (name.to_str().and_then(|name| name.rsplit_once('.')), entry.metadata())
            else {
                continue;
            };
            let idle = meta.modified().ok().and_then(|at| now.duration_since(at).ok());
            let found = files.entry(stem.to_owned()).or_default();
            found.artifact |= extension == "zst";
            found.note |= extension == "json";
            found.why |= extension == "why";
            found.bytes += meta.len();
            let idle = idle.unwrap_or_default();
            found.idle = Some(found.idle.map_or(idle, |newest| newest.min(idle)));
        }
        let named = files.into_iter().filter_map(|(stem, files)| {
            let (component, current) = read_stem(&stem)?;
            let whole = files.artifact && files.note || files.why;
            let idle = files.idle.unwrap_or_default();
            Some(Listed { stem, component, current, whole, bytes: files.bytes, idle })
        });
        Ok(named.collect())
    }

    /// Removes one compilation; whether there was one.
    pub(crate) fn remove(&self, stem: &str) -> io::Result<bool> {
        let mut removed = false;
        for extension in ["json", "zst", "new", "why"] {
            removed |= remove(&self.dir.join(format!("{stem}.{extension}")))?;
        }
        Ok(removed)
    }
}

#[derive(Default)]
struct Files {
    artifact: bool,
    note: bool,
    why: bool,
    bytes: u64,
    idle: Option<Duration>,
}

fn note_of(artifact: &Path) -> PathBuf {
    artifact.with_extension("json")
}

fn why_of(artifact: &Path) -> PathBuf {
    artifact.with_extension("why")
}

/// The component, and whether this hub would make the same file today.
fn read_stem(stem: &str) -> Option<(Digest, bool)> {
    let (hex, rest) = stem.split_once('-')?;
    let (profile, build) = rest.rsplit_once('-')?;
    let component = format!("sha256:{hex}").parse().ok()?;
    let build: u32 = build.parse().ok()?;
    let known = Profile::parse(profile).is_ok_and(|profile| profile.is_current());
    Some((component, known && build == COMPILER_BUILD))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_what_this_hub_would_make() {
        let profile = Profile::candidates()[0];
        let (component, hex) = (Digest::of(b"c"), Digest::of(b"c").hex());
        let read = |rest: &str| read_stem(&format!("{hex}-{rest}"));
        assert_eq!(read(&format!("{profile}-{COMPILER_BUILD}")), Some((component, true)));
        assert_eq!(read(&format!("{profile}-470001")), Some((component, false)));
        assert_eq!(
            read(&format!("47-x86_64-guard4g-1-{COMPILER_BUILD}")),
            Some((component, false))
        );
        assert_eq!(read(&format!("1-vax-{COMPILER_BUILD}")), Some((component, false)));
        assert_eq!(read_stem("README"), None);
        assert_eq!(read(&format!("{profile}-x")), None, "no build at the end");
    }

    #[test]
    fn a_flipped_bit_in_an_artifact_or_its_note_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let compiled = Compiled::open(dir.path()).unwrap();
        let path = compiled.path(&Digest::of(b"c"), Profile::candidates()[0]);
        let code: Vec<u8> = (0..20_000_u32).flat_map(|n| (n * n).to_le_bytes()).collect();
        std::fs::write(&path, zstd::encode_all(&code[..], 3).unwrap()).unwrap();
        let size = code.len() as u64;
        let made = Made { digest: Digest::of(&code).to_string(), size, build: COMPILER_BUILD };
        compiled.write_note(&path, &made).unwrap();
        let is_whole =
            || compiled.note(&path).is_some_and(|made| Compiled::is_whole(&path, &made).unwrap());
        assert!(is_whole());
        for file in [path.clone(), note_of(&path)] {
            let whole = std::fs::read(&file).unwrap();
            for at in (0..whole.len()).step_by(whole.len() / 40 + 1) {
                let mut flipped = whole.clone();
                flipped[at] ^= 4;
                std::fs::write(&file, flipped).unwrap();
                let unchanged = compiled.note(&path) == Some(made.clone()) && file != path;
                assert!(!is_whole() || unchanged, "byte {at} of {file:?}");
            }
            std::fs::write(&file, whole).unwrap();
        }
        assert!(is_whole());
    }

    #[test]
    fn a_failure_is_kept_over_a_restart_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::candidates()[0];
        let compiled = Compiled::open(dir.path()).unwrap();
        let path = compiled.path(&Digest::of(b"bomb"), profile);
        let beyond = CompileError::Beyond("too much".to_owned());
        compiled.write_failure(&path, &beyond).unwrap();
        compiled.write_failure(&path.with_extension("x"), &CompileError::Died("x".into())).unwrap();
        let again = Compiled::open(dir.path()).unwrap();
        assert_eq!(again.failure(&path).unwrap().to_string(), beyond.to_string());
        assert_eq!(again.list().unwrap().len(), 1, "only what would fail again is kept");
        assert!(again.forget_failure(&path).unwrap() && again.failure(&path).is_none());
    }

    #[test]
    fn where_the_compiler_stumbled_it_tries_again_in_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let compiled = Compiled::open(dir.path()).unwrap();
        let path = compiled.path(&Digest::of(b"c"), Profile::candidates()[0]);
        compiled.write_failure(&path, &CompileError::Stumbled("SIGABRT".to_owned())).unwrap();
        let age = |by: Duration| {
            let at = SystemTime::now().checked_sub(by).unwrap();
            std::fs::File::options().write(true).open(why_of(&path)).unwrap().set_modified(at)
        };
        let hour = Duration::from_secs(3600);
        age(23 * hour).unwrap();
        assert!(compiled.failure(&path).unwrap().to_string().contains("tried again in a day"));
        age(25 * hour).unwrap();
        assert!(compiled.failure(&path).is_none());
        compiled.write_failure(&path, &CompileError::Beyond("CPU".to_owned())).unwrap();
        age(25 * hour).unwrap();
        assert!(compiled.failure(&path).is_some(), "that it would meet again");
    }

    #[test]
    fn halves_of_an_earlier_run_go_at_the_start_and_wholes_stay() {
        let dir = tempfile::tempdir().unwrap();
        let profile = Profile::candidates()[0];
        let compiled = Compiled::open(dir.path()).unwrap();
        let whole = compiled.path(&Digest::of(b"whole"), profile);
        let half = compiled.path(&Digest::of(b"half"), profile);
        let begun = compiled.path(&Digest::of(b"begun"), profile).with_extension("new");
        let made = Made { digest: Digest::of(b"x").to_string(), size: 1, build: COMPILER_BUILD };
        for path in [&whole, &half, &begun, &compiled.dir.join("somebody.else")] {
            std::fs::write(path, b"x").unwrap();
        }
        compiled.write_note(&whole, &made).unwrap();
        let again = Compiled::open(dir.path()).unwrap();
        assert_eq!(again.note(&whole), Some(made));
        assert!(!half.exists() && !begun.exists());
        assert!(compiled.dir.join("somebody.else").exists(), "not ours");
    }
}
