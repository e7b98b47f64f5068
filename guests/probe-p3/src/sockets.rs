//! Sockets: `wasi:sockets` 0.3.

use crate::asked::Asked;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::task::Poll;
use wasip3::clocks::monotonic_clock;
use wasip3::sockets::ip_name_lookup::resolve_addresses;
use wasip3::sockets::types::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress, Ipv4SocketAddress, Ipv6SocketAddress,
    TcpSocket, UdpSocket,
};
use wasip3::wit_stream;

pub(crate) async fn resolve(asked: &Asked<'_>) -> String {
    let shown = |address: IpAddress| match address {
        IpAddress::Ipv4((a, b, c, d)) => format!("{a}.{b}.{c}.{d}\n"),
        IpAddress::Ipv6(parts) => {
            let (a, b, c, d, e, f, g, h) = parts;
            format!("{}\n", std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h))
        }
    };
    match resolve_addresses(asked.text("name").to_owned()).await {
        Ok(found) => {
            let found: BTreeSet<String> = found.into_iter().map(shown).collect();
            found.into_iter().collect()
        }
        Err(code) => format!("refused: {code:?}\n"),
    }
}

fn address(text: &str) -> (IpAddressFamily, IpSocketAddress) {
    match text.parse().expect("an address") {
        SocketAddr::V4(address) => {
            let [a, b, c, d] = address.ip().octets();
            let address = Ipv4SocketAddress {
                port: address.port(),
                address: (a, b, c, d),
            };
            (IpAddressFamily::Ipv4, IpSocketAddress::Ipv4(address))
        }
        SocketAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h] = address.ip().segments();
            let address = Ipv6SocketAddress {
                port: address.port(),
                flow_info: 0,
                address: (a, b, c, d, e, f, g, h),
                scope_id: 0,
            };
            (IpAddressFamily::Ipv6, IpSocketAddress::Ipv6(address))
        }
    }
}

/// Connects, says "ping", and gives the answer.
pub(crate) async fn connect(asked: &Asked<'_>) -> String {
    let (family, to) = address(asked.text("to"));
    let talk = async {
        let socket = TcpSocket::create(family)?;
        socket.connect(to).await?;
        let (mut writer, data) = wit_stream::new();
        let sent = socket.send(data);
        writer.write_all(b"ping\n".to_vec()).await;
        drop(writer);
        sent.await?;
        let (answer, end) = socket.receive();
        let answer = answer.collect().await;
        end.await?;
        Ok::<_, ErrorCode>(answer)
    };
    match talk.await {
        Ok(answer) => format!("answered: {}\n", String::from_utf8_lossy(&answer)),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// Connects so many times, keeps the streams of what comes, and closes the sockets that they are of.
pub(crate) async fn streams(asked: &Asked<'_>) -> String {
    let mut coming = Vec::new();
    for _ in 0..asked.number("n", 10) {
        let (family, to) = address(asked.text("to"));
        let connected = async {
            let socket = TcpSocket::create(family)?;
            socket.connect(to).await?;
            Ok::<_, ErrorCode>(socket.receive())
        };
        match connected.await {
            Ok(streams) => coming.push(streams),
            Err(code) => return format!("refused: {code:?}\n"),
        }
    }
    format!("{} held\n", coming.len())
}

/// Sends a datagram and gives the one that comes back.
pub(crate) async fn udp(asked: &Asked<'_>) -> String {
    let (family, to) = address(asked.text("to"));
    let talk = async {
        let socket = UdpSocket::create(family)?;
        socket.send(b"ping".to_vec(), Some(to)).await?;
        let (answer, _) = socket.receive().await?;
        Ok::<_, ErrorCode>(answer)
    };
    match talk.await {
        Ok(answer) => format!("answered: {}\n", String::from_utf8_lossy(&answer)),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// Waits for so many datagrams at once, of which none comes, for long enough that the host looks.
pub(crate) async fn receive(asked: &Asked<'_>) -> String {
    let (family, at) = address("0.0.0.0:0");
    let bound = UdpSocket::create(family).and_then(|socket| socket.bind(at).map(|()| socket));
    let socket = match bound {
        Ok(socket) => socket,
        Err(code) => return format!("refused: {code:?}\n"),
    };
    let all = asked.number("n", 1);
    let mut waiting: Vec<_> = (0..all).map(|_| Box::pin(socket.receive())).collect();
    poll_fn(|cx| {
        waiting.retain_mut(|it| match it.as_mut().poll(cx) {
            Poll::Pending => true,
            Poll::Ready(answer) => !matches!(answer, Err(ErrorCode::OutOfMemory)),
        });
        Poll::Ready(())
    })
    .await;
    let until = monotonic_clock::now() + 50_000_000;
    while monotonic_clock::now() < until {}
    format!("{} of {all} wait\n", waiting.len())
}

pub(crate) fn listen(asked: &Asked<'_>) -> String {
    let (family, at) = address(asked.text("at"));
    let socket = TcpSocket::create(family).and_then(|socket| {
        socket.bind(at)?;
        socket.listen()
    });
    match socket {
        Ok(_) => "listening\n".to_owned(),
        Err(code) => format!("refused: {code:?}\n"),
    }
}

/// For datagrams.
pub(crate) fn bind(asked: &Asked<'_>) -> String {
    let (family, at) = address(asked.text("at"));
    match UdpSocket::create(family).and_then(|socket| socket.bind(at)) {
        Ok(()) => "bound\n".to_owned(),
        Err(code) => format!("refused: {code:?}\n"),
    }
}
