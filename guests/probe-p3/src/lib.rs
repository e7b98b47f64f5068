//! `probe` by way of the interfaces of 0.3: files, sockets and clocks; and buckets and containers, which have no form of their
//! own for 0.3: a guest of 0.3 imports them as one of 0.2 does.
#![cfg(target_arch = "wasm32")] // only a guest can do this: natively the crate is empty

#[path = "../../probe/src/asked.rs"]
mod asked;
mod clock;
mod files;
mod kept;
mod sockets;

use asked::Asked;
use http::Response;
use std::sync::atomic::{AtomicU64, Ordering};
use wasip3::exports::http::handler::Guest;
use wasip3::http::types;
use wasip3::http_compat::http_into_wasi_response;

/// The interfaces that `wasip3` lacks.
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../wit/deps/wasi-io-0.2.12.wit",
            "../../wit/deps/wasi-blobstore-0.2.0-draft.wit",
            "../../wit/deps/wasi-keyvalue-0.2.0-draft2.wit",
        ],
        inline: "package probe:guest;
            world imports {
                import wasi:blobstore/blobstore@0.2.0-draft;
                include wasi:keyvalue/imports@0.2.0-draft2;
            }",
        generate_all,
    });
}

struct Probe;

wasip3::http::service::export!(Probe);

/// Lives as long as the instance: above 1, the instance is being reused.
static SERVED: AtomicU64 = AtomicU64::new(0);

impl Guest for Probe {
    async fn handle(request: types::Request) -> Result<types::Response, types::ErrorCode> {
        let served = SERVED.fetch_add(1, Ordering::Relaxed) + 1;
        let target = request.get_path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let asked = Asked(query);
        let said = match path {
            "/count" => format!("{served}\n"),
            "/env" => match std::env::var(asked.text("name")) {
                Ok(value) => format!("{value}\n"),
                Err(_) => "none\n".to_owned(),
            },

            "/read" => files::read(&asked).await,
            "/write" => files::write(&asked, false).await,
            "/append" => files::write(&asked, true).await,
            "/fill" => files::fill(&asked).await,
            "/copy" => files::copy(&asked).await,
            "/list" => files::list(&asked).await,
            "/peek" => files::peek(&asked).await,
            "/hoard" => files::hoard(&asked).await,
            "/truncate" => files::truncate(&asked).await,
            "/mkdir" => files::mkdir(&asked).await,
            "/remove" => files::remove(&asked).await,
            "/rename" => files::rename(&asked).await,
            "/link" => files::link(&asked).await,
            "/symlink" => files::symlink(&asked).await,
            "/times" => files::times(&asked).await,

            "/bucket" => kept::bucket(&asked),
            "/container" => kept::container(&asked),

            "/clock" => clock::clock(),
            "/timer" => clock::timer(&asked).await,
            "/now" => clock::now(),
            "/random" => clock::random(&asked),

            "/resolve" => sockets::resolve(&asked).await,
            "/connect" => sockets::connect(&asked).await,
            "/streams" => sockets::streams(&asked).await,
            "/udp" => sockets::udp(&asked).await,
            "/receive" => sockets::receive(&asked).await,
            "/listen" => sockets::listen(&asked),
            "/bind" => sockets::bind(&asked),
            _ => "no such path\n".to_owned(),
        };
        http_into_wasi_response(Response::new(said))
    }
}

/// What came of it, by the name of its code.
fn said<T, E: std::fmt::Debug>(result: Result<T, E>) -> String {
    match result {
        Ok(_) => "done\n".to_owned(),
        Err(error) => format!("refused: {error:?}\n"),
    }
}
