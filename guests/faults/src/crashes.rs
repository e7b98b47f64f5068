//! Ways to die, and ways to take more than one's share until one dies.

use std::hint::black_box;

const MIB: usize = 1 << 20;

pub(crate) fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

pub(crate) fn panic() -> ! {
    panic!("boom")
}

pub(crate) fn abort() -> ! {
    std::process::abort()
}

/// Frames are kept small: Rust's own stack in linear memory must outlast the host's, or this would be
/// an access out of bounds instead of a stack overflow.
pub(crate) fn overflow() -> ! {
    fn deeper(depth: u64) -> u64 {
        match depth {
            u64::MAX => 0,
            _ => black_box(deeper(black_box(depth + 1))) + 1, // work after the call, so that it is no loop
        }
    }
    black_box(deeper(0));
    unreachable!("the stack has an end")
}

/// A loop that calls nothing: only the host can end it.
pub(crate) fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Memory until it is refused; then Rust's allocator ends the guest.
pub(crate) fn grow() -> ! {
    let mut taken = Vec::new();
    loop {
        taken.push(black_box(vec![1_u8; MIB]));
    }
}

/// Memory until it is refused, and no harm done: how many MiB there were.
pub(crate) fn grow_politely() -> usize {
    const PAGES: usize = MIB / (64 * 1024);
    let mut mib = 0;
    while core::arch::wasm32::memory_grow::<0>(PAGES) != usize::MAX {
        mib += 1;
    }
    mib
}

/// So many MiB in one piece, every page of it written to.
pub(crate) fn alloc(mib: u64) -> usize {
    black_box(vec![1_u8; mib as usize * MIB]).len()
}

/// A resource of the host, again and again, and never given back.
pub(crate) fn table<T>(make: impl Fn() -> T) -> ! {
    loop {
        std::mem::forget(make());
    }
}

/// Makes the host keep a gigabyte for this guest, a text of a MiB in each of a thousand objects.
pub(crate) fn hoard<T>(object_with: impl Fn(String) -> T) -> usize {
    let text = "A".repeat(1 << 20);
    let kept: Vec<T> = (0..1000).map(|_| object_with(text.clone())).collect();
    kept.len()
}
