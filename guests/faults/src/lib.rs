//! One path for each thing a guest can do wrong, or can find out about its sandbox: one path, one
//! behaviour, one test of the host. `faults-p3` has the same paths with the same meaning in wasi:http 0.3.
//!
//! Written against the raw bindings, since much of this is what a comfortable library prevents.
#![cfg(target_arch = "wasm32")] // only a guest can commit these faults: natively the crate is empty

mod answer;
mod bodies;
mod codes; // shared with faults-p3, as are `crashes`, `output`, `system` and `text`
mod crashes;
mod fetch;
mod heads;
mod output;
mod reach;
mod requests;
mod system;
mod text;
mod time;

use answer::{answer, status};
use std::sync::atomic::{AtomicU64, Ordering};
use text::query;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    DnsErrorPayload, ErrorCode, FieldSizePayload, Fields, IncomingRequest, ResponseOutparam,
    TlsAlertReceivedPayload,
};

struct Faults;

wasip2::http::proxy::export!(Faults);

/// Lives as long as the instance: above 1, the instance is being reused.
static SERVED: AtomicU64 = AtomicU64::new(0);

impl Guest for Faults {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let target = request.path_with_query().unwrap_or_default();
        let (path, number) = (text::path(&target), |name| {
            query(&target, name).and_then(|value| value.parse().ok())
        });
        let (n, ms) = (number("n").unwrap_or(5), number("ms").unwrap_or(100));

        match path {
            "/ok" => answer(out, "ok\n"),
            "/count" => answer(out, &format!("{served}\n")),

            "/trap" => crashes::trap(),
            "/panic" => crashes::panic(),
            "/abort" => crashes::abort(),
            "/overflow" => crashes::overflow(),
            "/grow" => crashes::grow(),
            "/grow-politely" => answer(out, &format!("{}\n", crashes::grow_politely())),
            "/alloc" => answer(
                out,
                &format!("{}\n", crashes::alloc(number("mib").unwrap_or(1024))),
            ),
            "/table" => crashes::table(Fields::new),
            "/hoard" => answer(
                out,
                &format!("{}\n", crashes::hoard(reach::request_by_method)),
            ),

            "/hoard-bodies" => {
                let kept = crashes::hoard(|text| reach::request_with_body(text.as_bytes()));
                answer(out, &format!("{kept}\n"));
            }

            "/spin" => crashes::spin(),
            "/spin-after-headers" => time::spin_after_headers(out),
            "/spin-after-response" => time::spin_after_response(out),
            "/never" => time::never(),
            "/sleep" => {
                crashes::alloc(number("mib").unwrap_or(0));
                time::sleep(out, ms);
            }
            "/after" => time::after(out, ms),
            "/burn" => time::burn(out, ms),
            "/flutter" => time::flutter(out, n, number("us").unwrap_or(100)),
            "/drip" => time::drip(out, n, ms),

            "/no-response" => drop(out),
            "/length-short" => heads::length(out, 10, b"short"),
            "/length-long" => heads::length(out, 5, b"much longer"),
            "/hop-by-hop" => heads::hop_by_hop(out),
            "/bad-headers" => heads::bad_headers(out),
            "/big-head" => heads::big_head(out, number("n").unwrap_or(200)),
            "/no-body-status/204" => heads::no_body_status(out, 204),
            "/no-body-status/304" => heads::no_body_status(out, 304),

            "/trap-mid-body" => bodies::trap_mid_body(out),
            "/drop-body" => bodies::drop_body(out),
            "/leak-body" => bodies::leak_body(out),
            "/bytes" => bodies::bytes(out, n),
            "/bytes-length" => bodies::bytes_length(out, n),
            "/trailers" => bodies::trailers(out, &[("trailer", "x-checksum")]),
            "/trailers-unannounced" => bodies::trailers(out, &[]),
            "/faults.Echo/Talk" => requests::grpc(&request, out),

            "/ignore-body" => answer(out, "ignored\n"),
            "/read" => requests::read(&request, out),
            "/headers" => requests::headers(&request, out),
            "/request" => requests::request(&request, out),
            "/request-trailers" => requests::trailers(&request, out),

            "/say" => answer(out, output::say()),
            "/flood" => answer(out, output::flood()),
            "/long-line" => answer(out, output::long_line()),
            "/control-characters" => answer(out, output::control_characters()),

            "/env" => answer(out, &system::env()),
            "/file" => answer(out, &format!("{}{}", system::file(), reach::preopens())),
            "/write" => answer(
                out,
                &system::write(query(&target, "path").unwrap_or("written")),
            ),
            "/outbound" => answer(
                out,
                &reach::outbound(query(&target, "to").unwrap_or("127.0.0.1:1")),
            ),
            "/fetch" => answer(out, &fetch::fetch(&target)),
            "/fetch-many" => answer(out, &fetch::many(&target, n)),
            "/fetch-at-once" => answer(out, &fetch::at_once(&target, n)),
            "/socket" => answer(out, &reach::socket()),
            "/dns" => answer(out, &reach::dns()),

            _ => {
                if let Some(code) = path.strip_prefix("/error/").and_then(codes::from_name) {
                    ResponseOutparam::set(out, Err(code));
                } else if let Some(code) = path
                    .strip_prefix("/status/")
                    .and_then(|code| code.parse().ok())
                {
                    heads::status(out, code);
                } else {
                    status(out, 404, "no such fault\n");
                }
            }
        }
    }
}
