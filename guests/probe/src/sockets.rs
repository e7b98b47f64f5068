//! Sockets, by way of the standard library: `wasi:sockets` 0.2.

use crate::asked::Asked;
use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::time::{Duration, Instant};

pub(crate) fn resolve(asked: &Asked) -> String {
    match (asked.text("name"), 0).to_socket_addrs() {
        Ok(found) => {
            let found: BTreeSet<String> = found.map(|it| format!("{}\n", it.ip())).collect();
            found.into_iter().collect()
        }
        Err(error) => format!("refused: {error}\n"),
    }
}

/// Connects, says "ping", and gives the answer.
pub(crate) fn connect(asked: &Asked) -> String {
    let mut text = String::new();
    let talked = TcpStream::connect(asked.text("to")).and_then(|mut stream| {
        stream.write_all(b"ping\n")?;
        stream.read_to_string(&mut text)
    });
    match talked {
        Ok(_) => format!("answered: {text}\n"),
        Err(error) => format!("refused: {error}\n"),
    }
}

/// Sends a datagram and gives the one that comes back.
pub(crate) fn udp(asked: &Asked) -> String {
    let mut bytes = [0; 100];
    let here = match asked.text("to").starts_with('[') {
        true => "[::]:0",
        false => "0.0.0.0:0",
    };
    let talked = UdpSocket::bind(here).and_then(|socket| {
        socket.send_to(b"ping", asked.text("to"))?;
        socket.recv(&mut bytes)
    });
    match talked {
        Ok(n) => format!("answered: {}\n", String::from_utf8_lossy(&bytes[..n])),
        Err(error) => format!("refused: {error}\n"),
    }
}

/// Waits for a datagram at so many sockets, to none of which one comes, for long enough that the host looks.
pub(crate) fn receive(asked: &Asked) -> String {
    let all = asked.number("n", 1);
    let waiting = (0..all).map(|_| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_nonblocking(true)?;
        match socket.recv(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(socket),
            Err(error) => Err(error),
            Ok(_) => Err(ErrorKind::InvalidData.into()),
        }
    });
    let waiting: Vec<UdpSocket> = match waiting.collect::<Result<_>>() {
        Ok(waiting) => waiting,
        Err(error) => return format!("refused: {error}\n"),
    };
    let until = Instant::now() + Duration::from_millis(50);
    while Instant::now() < until {}
    format!("{} of {all} wait\n", waiting.len())
}

pub(crate) fn listen(asked: &Asked) -> String {
    match TcpListener::bind(asked.text("at")) {
        Ok(_) => "listening\n".to_owned(),
        Err(error) => format!("refused: {error}\n"),
    }
}

/// For datagrams.
pub(crate) fn bind(asked: &Asked) -> String {
    match UdpSocket::bind(asked.text("at")) {
        Ok(_) => "bound\n".to_owned(),
        Err(error) => format!("refused: {error}\n"),
    }
}
