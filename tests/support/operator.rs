//! The operator's door on TCP, with a token.

use std::fs;
use std::net::SocketAddr;

use tempfile::TempDir;

use super::exposition::Exposition;
use super::{Connection, Reply, TestHost, directory, flag};

/// What the operator shows.
pub(crate) const OPERATOR: &str = "operatoroperatoroperator";

/// A place for a token and for what the host remembers.
pub(crate) struct Office(pub(crate) TempDir);

impl Office {
    pub(crate) fn new() -> Self {
        let office = Self(directory());
        fs::write(office.0.path().join("token"), OPERATOR).expect("written");
        office
    }

    /// The flags that open the door.
    pub(crate) fn flags(&self) -> String {
        let token = flag("--admin-token-file", &self.0.path().join("token"));
        let state = flag("--state", &self.0.path().join("state"));
        format!("--admin 127.0.0.1:0 {token} {state}")
    }
}

/// The door.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operator(pub(crate) SocketAddr);

impl Operator {
    pub(crate) fn of(host: &TestHost) -> Self {
        let said = host.says("Admin on http://");
        let address = said
            .split_once("http://")
            .and_then(|(_, it)| it.strip_suffix('/'));
        Self(address.and_then(|it| it.parse().ok()).expect("an address"))
    }

    /// With these header lines.
    pub(crate) fn ask(&self, target: &str, more: &str) -> Reply {
        let mut connection = Connection::to(self.0);
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{more}\r\n"));
        connection.reply()
    }

    pub(crate) fn get(&self, target: &str, token: &str) -> Reply {
        self.ask(target, &format!("Authorization: Bearer {token}\r\n"))
    }

    /// What somebody sees.
    pub(crate) fn metrics_of(&self, token: &str) -> Exposition {
        let reply = self.get("/metrics", token);
        assert_eq!(reply.status(), 200, "{}", reply.text());
        Exposition::parse(&reply.text())
    }

    pub(crate) fn metrics(&self) -> Exposition {
        self.metrics_of(OPERATOR)
    }
}
