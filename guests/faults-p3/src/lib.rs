//! The paths of `faults` with the same meaning in wasi:http 0.3; what needs no HTTP is that crate's code.
//!
//! In 0.3 `handle` returns the head of the response, and a task it spawned goes on with the body: what
//! happens "after the headers" happens in that task. Two things differ. `/no-response` does not exist: the
//! bindings leave no way to return without a response or an error code. `/drop-body` ends the stream and
//! gives an error in place of the trailers, which is how 0.3 says that a body is incomplete.
#![cfg(target_arch = "wasm32")] // only a guest can commit these faults: natively the crate is empty

mod answer;
mod bodies;
#[path = "../../faults/src/codes.rs"]
mod codes;
#[path = "../../faults/src/crashes.rs"]
mod crashes;
mod fetch;
mod heads;
#[path = "../../faults/src/output.rs"]
mod output;
mod reach;
mod requests;
#[path = "../../faults/src/system.rs"]
mod system;
#[path = "../../faults/src/text.rs"]
mod text;
mod time;

use answer::{answer, status};
use std::sync::atomic::{AtomicU64, Ordering};
use text::query;
use wasip3::exports::http::handler::Guest;
use wasip3::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, Fields, Request, Response,
    TlsAlertReceivedPayload,
};

struct Faults;

wasip3::http::service::export!(Faults);

/// Lives as long as the instance: above 1, the instance is being reused.
static SERVED: AtomicU64 = AtomicU64::new(0);

impl Guest for Faults {
    async fn handle(request: Request) -> Result<Response, ErrorCode> {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, number) = (text::path(&target), |name| {
            query(&target, name).and_then(|value| value.parse().ok())
        });
        let (n, ms) = (number("n").unwrap_or(5), number("ms").unwrap_or(100));

        Ok(match path {
            "/ok" => answer("ok\n"),
            "/count" => answer(&format!("{served}\n")),
            // Only an instance that nobody was in before answers: how much there was to read.
            "/first" => {
                if served == 1 {
                    requests::read(request).await
                } else {
                    time::never().await
                }
            }

            "/trap" => crashes::trap(),
            "/panic" => crashes::panic(),
            "/abort" => crashes::abort(),
            "/overflow" => crashes::overflow(),
            "/grow" => crashes::grow(),
            "/grow-politely" => answer(&format!("{}\n", crashes::grow_politely())),
            "/alloc" => answer(&format!(
                "{}\n",
                crashes::alloc(number("mib").unwrap_or(1024))
            )),
            "/table" => crashes::table(Fields::new),
            "/hoard" => answer(&format!("{}\n", crashes::hoard(reach::request_by_method))),

            "/spin" => crashes::spin(),
            "/spin-after-headers" => time::spin_after_headers(),
            "/spin-after-response" => time::spin_after_response(),
            "/never" => time::never().await,
            "/sleep" => time::sleep(ms).await,
            "/after" => time::after(ms),
            "/burn" => time::burn(ms),
            "/flutter" => time::flutter(n, number("us").unwrap_or(100)).await,
            "/drip" => time::drip(n, ms),

            "/length-short" => heads::length(10, b"short"),
            "/length-long" => heads::length(5, b"much longer"),
            "/hop-by-hop" => heads::hop_by_hop(),
            "/bad-headers" => heads::bad_headers(),
            "/big-head" => heads::big_head(number("n").unwrap_or(200)),
            "/no-body-status/204" => heads::no_body_status(204),
            "/no-body-status/304" => heads::no_body_status(304),

            "/trap-mid-body" => bodies::trap_mid_body(),
            "/drop-body" => bodies::drop_body(),
            "/leak-body" => bodies::leak_body(),
            "/bytes" => bodies::bytes(n),
            "/bytes-length" => bodies::bytes_length(n),
            "/trailers" => bodies::trailers(&[("trailer", "x-checksum")]),
            "/trailers-unannounced" => bodies::trailers(&[]),
            "/faults.Echo/Talk" => requests::grpc(request),

            "/ignore-body" => answer("ignored\n"),
            "/read" => requests::read(request).await,
            "/read-aloud" => requests::read_aloud(request).await,
            "/headers" => requests::headers(&request),
            "/request" => requests::request(&request),
            "/request-trailers" => requests::trailers(request).await,

            "/say" => answer(output::say()),
            "/flood" => answer(output::flood()),
            "/long-line" => answer(output::long_line()),
            "/control-characters" => answer(output::control_characters()),

            "/env" => answer(&system::env()),
            "/file" => answer(&format!("{}{}", system::file(), reach::preopens())),
            "/write" => answer(&system::write(query(&target, "path").unwrap_or("written"))),
            "/outbound" => {
                answer(&reach::outbound(query(&target, "to").unwrap_or("127.0.0.1:1")).await)
            }
            "/fetch" => answer(&fetch::fetch(&target).await),
            "/fetch-many" => answer(&fetch::many(&target, n).await),
            "/fetch-at-once" => answer(&fetch::at_once(&target, n).await),
            "/socket" => answer(&reach::socket().await),
            "/dns" => answer(&reach::dns().await),

            _ => {
                if let Some(code) = path.strip_prefix("/error/").and_then(codes::from_name) {
                    return Err(code);
                } else if let Some(code) = path
                    .strip_prefix("/status/")
                    .and_then(|code| code.parse().ok())
                {
                    heads::status(code)
                } else {
                    status(404, "no such fault\n")
                }
            }
        })
    }
}
