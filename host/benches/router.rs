//! What a lookup in the table of routes costs: `cargo bench --bench router`.

#![expect(clippy::print_stdout, reason = "it prints a table")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use host::catalog::Router;
use http::Method;

/// Half of the handlers have a host of their own, half a path on hosts that they share.
fn main() {
    println!("ns per lookup of a request for");
    println!("routes  own host  own path   nobody");
    for count in [10, 100, 10_000] {
        let router = router(count);
        let lookup = |request: fn(usize) -> Request| {
            let requests: Vec<Request> = (0..count / 2).map(request).collect();
            of_one_lookup(&router, &requests)
        };
        let host = lookup(|nth| (own_host(nth), "/cart/7".to_owned()));
        let path = lookup(|nth| (SHARED.to_owned(), format!("/shop-{nth}/cart/7")));
        let nobody = lookup(|nth| (format!("no-{nth}.example.com"), "/cart/7".to_owned()));
        println!("{count:>6}  {host:>8.0}  {path:>8.0}  {nobody:>7.0}");
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
