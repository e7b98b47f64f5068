//! What a lookup in the table of routes costs: `cargo bench --bench router`. It prints Markdown.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use host::catalog::Router;
use http::Method;

/// Half of the handlers have a host of their own, half a path on hosts that they share.
fn main() {
    println!(
        "| routes | own host, ns | own path, ns | nobody, ns | most allocations | most bytes |"
    );
    println!("|---:|---:|---:|---:|---:|---:|");
    for count in [10, 100, 10_000] {
        let router = router(count);
        let mut most = (0, 0);
        let mut lookup = |request: fn(usize) -> Request| {
            let requests: Vec<Request> = (0..count / 2).map(request).collect();
            let (allocations, bytes) = allocated(&router, &requests);
            most = (most.0.max(allocations), most.1.max(bytes));
            of_one_lookup(&router, &requests)
        };
        let host = lookup(|nth| (own_host(nth), "/cart/7".to_owned()));
        let path = lookup(|nth| (SHARED.to_owned(), format!("/shop-{nth}/cart/7")));
        let nobody = lookup(|nth| (format!("no-{nth}.example.com"), "/cart/7".to_owned()));
        let (allocations, bytes) = most;
        println!("| {count} | {host:.0} | {path:.0} | {nobody:.0} | {allocations} | {bytes} |");
    }
}

/// Host and path.
type Request = (String, String);

const SHARED: &str = "shop.example.com:8080";
const LASTS: Duration = Duration::from_millis(300);

fn router(count: usize) -> Router<()> {
    let owner: Arc<str> = Arc::from("bench");
    let texts = (0..count / 2).flat_map(|nth| {
        [
            format!("{}/*", own_host(nth)),
            format!("*.example.com/shop-{nth}/*"),
        ]
    });
    let routes = texts.map(|text| (text.parse().expect("a route"), Arc::clone(&owner), ()));
    Router::build(routes).expect("no conflicts")
}

fn own_host(nth: usize) -> String {
    format!("tenant-{nth}.example.com")
}

/// Allocations and their bytes, of the lookup that has most of each.
fn allocated(router: &Router<()>, requests: &[Request]) -> (usize, usize) {
    let counted = || {
        (
            ALLOCATIONS.load(Ordering::Relaxed),
            BYTES.load(Ordering::Relaxed),
        )
    };
    let of_one = |(host, path): &Request| {
        let before = counted();
        black_box(router.find(black_box(host), black_box(path), &Method::GET));
        let after = counted();
        (after.0 - before.0, after.1 - before.1)
    };
    let all = requests.iter().map(of_one);
    all.fold((0, 0), |most, one| (most.0.max(one.0), most.1.max(one.1)))
}

/// Nanoseconds, on average. Requests are strides apart, so that what is near in memory is not used in turn.
fn of_one_lookup(router: &Router<()>, requests: &[Request]) -> f64 {
    let started = Instant::now();
    let (mut lookups, mut at) = (0_u32, 0);
    while started.elapsed() < LASTS {
        for _ in 0..1_000 {
            at = (at + 7_919) % requests.len();
            let (host, path) = &requests[at];
            black_box(router.find(black_box(host), black_box(path), &Method::GET));
        }
        lookups += 1_000;
    }
    started.elapsed().as_nanos() as f64 / f64::from(lookups)
}

/// The system's allocator, counted. Nothing else in this program allocates while a lookup is looked at.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicUsize = AtomicUsize::new(0);

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(bytes, Ordering::Relaxed);
}

// SAFETY: each call goes to the system's allocator as it came, and counting neither allocates nor unwinds.
#[expect(
    unsafe_code,
    reason = "an allocator cannot be written without; this one is no part of the host"
)]
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: who calls promises of `layout` what `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: `place` is from `System`, and who calls promises the rest.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: `place` is from `System`, and who calls promises the rest.
        unsafe { System.realloc(place, layout, size) }
    }
}
