//! What the host has of an instance's files in its memory: pieces that were read and not taken, or taken and not written.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The pieces of one instance.
#[derive(Debug, Clone, Default)]
pub(super) struct Pieces(Arc<AtomicUsize>);

/// A piece, which counts for as long as this is there.
#[derive(Debug)]
pub(super) struct Piece {
    all: Pieces,
    bytes: usize,
}

impl Pieces {
    /// One more, of so many bytes.
    pub(super) fn hold(&self, bytes: usize) -> Piece {
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Piece {
            all: self.clone(),
            bytes,
        }
    }

    /// Of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.all.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_counts_until_it_is_dropped() {
        let pieces = Pieces::default();
        let held = [pieces.hold(2), pieces.hold(3)];
        assert_eq!(pieces.bytes(), 5);
        drop(held);
        assert_eq!(pieces.bytes(), 0);
    }
}
