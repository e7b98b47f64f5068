//! `/OPERATION?bucket=B&key=K&…` does that with a bucket and answers with what came of it, as text: `ok …`, or the error. With
//! `v=1` by `wasi:keyvalue` 0.2.0-draft, else by 0.2.0-draft2.

mod one;
mod two;

use std::collections::HashMap;
use wstd::http::{Body, Request, Response, Result};

#[wstd::http_server]
async fn main(request: Request<Body>) -> Result<Response<Body>> {
    let query = request.uri().query().unwrap_or("");
    let asked = Asked {
        operation: request.uri().path().trim_start_matches('/').to_owned(),
        words: form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
    };
    let did = match asked.word("v") {
        "1" => one::did(&asked),
        _ => two::did(&asked),
    };
    let said = match did {
        Ok(said) => format!("ok {said}\n"),
        Err(said) => format!("{said}\n"),
    };
    Ok(Response::new(said.into()))
}

/// What a request asks for.
struct Asked {
    operation: String,
    words: HashMap<String, String>,
}

impl Asked {
    fn word(&self, name: &str) -> &str {
        self.words.get(name).map_or("", |word| word)
    }

    fn bucket(&self) -> &str {
        match self.words.get("bucket") {
            Some(name) => name,
            None => "default",
        }
    }

    fn key(&self) -> &str {
        self.word("key")
    }

    fn number(&self, name: &str) -> i64 {
        self.word(name).parse().unwrap_or(1)
    }

    fn times(&self) -> i64 {
        self.number("n")
    }

    /// `value`, or so many bytes as `size` says.
    fn value(&self) -> Vec<u8> {
        match self.word("size").parse() {
            Ok(size) => vec![b'x'; size],
            Err(_) => self.word("value").as_bytes().to_vec(),
        }
    }

    /// Keys that begin with `key`, numbered.
    fn keys(&self) -> Vec<String> {
        let from = self.words.get("from").map_or(0, |_| self.number("from"));
        (from..from + self.times())
            .map(|nth| format!("{}{nth}", self.key()))
            .collect()
    }
}

fn shown(value: Option<Vec<u8>>) -> String {
    match value {
        Some(value) if value.len() > 100 => format!("{} bytes", value.len()),
        Some(value) => format!("`{}`", String::from_utf8_lossy(&value)),
        None => "none".to_owned(),
    }
}
