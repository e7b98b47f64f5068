//! The form in which artifacts are kept: compiled code, a label that says what it was made from, and a seal over both.
//!
//! Label and seal stand at the end, because the engine maps the file from its beginning and ignores what follows its
//! own image. One form for the cache and for `host compile`, so one place that decides whether bytes are whole. A seal
//! tells damage, not intent: whoever can write the file can seal it.
//!
//! `image | label as JSON | SHA-256 of image and label | length of the label, u32 | MAGIC`

use super::inspect::Inspection;
use crate::engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;

/// Raised when this form or the rules of the inspection change: older artifacts are then made anew.
pub(super) const MAGIC: &[u8; 8] = b"hostart3";

/// What an artifact was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Label {
    /// SHA-256 of the component, in hex.
    pub(super) digest: String,
    /// The engine's compatibility with it: compiler, version, settings, processor.
    pub(super) fingerprint: String,
    pub(super) inspection: Inspection,
}

impl Label {
    /// Whether an engine of this program runs it.
    pub(super) fn fits(&self) -> bool {
        self.fingerprint == engine::fingerprint(self.inspection.target())
    }
}

/// Why a file is not taken for an artifact.
#[derive(Debug)]
pub(super) enum Broken {
    /// No seal: it was not written by us.
    Foreign,
    /// The seal does not fit.
    Damaged,
    Unreadable(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Broken {
        Broken::Unreadable(error)
    }
}

const SEAL: usize = 32;
const TAIL: usize = SEAL + 4 + MAGIC.len();
/// A component's names are in its label; beyond this it is cheaper to compile again than to read them.
const LABEL_MAX: u32 = 16 << 20;

/// Adds label and seal to a file that holds compiled code.
pub(super) fn seal(file: &mut File, label: &Label) -> io::Result<()> {
    let image = file.metadata()?.len();
    let label = serde_json::to_vec(label)?;
    let length = u32::try_from(label.len())
        .ok()
        .filter(|length| *length <= LABEL_MAX);
    let length = length
        .ok_or_else(|| io::Error::other("the component has too many names to keep its artifact"))?;
    let mut hash = Sha256::new();
    hash_part(file, image, &mut hash)?;
    hash.update(&label);
    file.seek(SeekFrom::Start(image))?;
    file.write_all(
        &[
            &label[..],
            &hash.finalize()[..],
            &length.to_le_bytes(),
            MAGIC,
        ]
        .concat(),
    )
}

/// Reads the whole file once and gives its label if not a byte has changed.
pub(super) fn unseal(file: &File) -> Result<Label, Broken> {
    let length = file.metadata()?.len();
    let sealed = length.checked_sub(TAIL as u64).ok_or(Broken::Foreign)?;
    let mut tail = [0; TAIL];
    file.read_exact_at(&mut tail, sealed)?;
    let (seal, rest) = tail.split_at(SEAL);
    let (label_length, magic) = rest.split_at(4);
    if magic != MAGIC {
        return Err(Broken::Foreign);
    }
    let label_length = label_length
        .try_into()
        .map(u32::from_le_bytes)
        .map_err(|_| Broken::Damaged)?;
    if label_length > LABEL_MAX {
        return Err(Broken::Damaged);
    }
    let image = sealed
        .checked_sub(label_length.into())
        .ok_or(Broken::Damaged)?;
    let mut label = vec![0; label_length as usize];
    file.read_exact_at(&mut label, image)?;
    let mut hash = Sha256::new();
    hash_part(file, image, &mut hash)?;
    hash.update(&label);
    if hash.finalize()[..] != *seal {
        return Err(Broken::Damaged);
    }
    serde_json::from_slice(&label).map_err(|_| Broken::Damaged)
}

/// Bytes that are read and hashed in one go: they stay in the processor's cache, and the allocator has them at hand.
const PIECE: usize = 1 << 16;

/// In pieces: an artifact of 50 MB need not be in memory twice.
fn hash_part(file: &File, end: u64, hash: &mut Sha256) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    let mut at = 0;
    while at < end {
        let wanted = buffer
            .len()
            .min(usize::try_from(end - at).unwrap_or(usize::MAX));
        let piece = &mut buffer[..wanted];
        file.read_exact_at(piece, at)?;
        hash.update(&*piece);
        at += wanted as u64;
    }
    Ok(())
}

/// SHA-256 in hex.
pub(super) fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::components::inspect;

    fn label() -> Label {
        let text = r#"(component (instance $h) (export "wasi:http/incoming-handler@0.2.0" (instance $h)))"#;
        let wasm = wat::parse_str(text).expect("test component");
        Label {
            digest: digest(&wasm),
            fingerprint: "f".into(),
            inspection: inspect(&wasm).expect("accepted"),
        }
    }

    fn sealed(image: &[u8]) -> Vec<u8> {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(image).expect("written");
        seal(&mut file, &label()).expect("sealed");
        let mut bytes = vec![0; file.metadata().expect("metadata").len() as usize];
        file.read_exact_at(&mut bytes, 0).expect("read");
        bytes
    }

    fn opened(bytes: &[u8]) -> Result<Label, Broken> {
        let mut file = tempfile::tempfile().expect("file");
        file.write_all(bytes).expect("written");
        unseal(&file)
    }

    #[test]
    fn what_was_sealed_is_read_back() {
        for size in [0, 1, PIECE, 2 * PIECE + 1] {
            assert_eq!(opened(&sealed(&vec![7; size])).expect("whole"), label());
        }
    }

    #[test]
    fn no_byte_can_change_unnoticed() {
        let whole = sealed(b"compiled code");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            assert!(opened(&bytes).is_err(), "byte {at}");
        }
        for length in 0..whole.len() {
            assert!(opened(&whole[..length]).is_err(), "cut to {length}");
        }
        assert!(matches!(
            opened(b"\x7fELF of someone else, long enough to have a seal"),
            Err(Broken::Foreign)
        ));
    }
}
