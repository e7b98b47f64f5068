//! Bodies flow both ways at the same time, and nobody holds much of them.

use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

const MIB: usize = 1 << 20;

const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

#[test]
fn an_echo_answers_before_the_request_is_complete() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send(CHUNKED);
        let mut head = None;
        for part in ["one", "two", "three"] {
            connection.send(format!("{:x}\r\n{part}\r\n", part.len()));
            head.get_or_insert_with(|| connection.head());
            let mut answer = Vec::new();
            while answer.len() < part.len() {
                answer.extend(connection.chunk().expect("a chunk"));
            }
            assert_eq!(answer, part.as_bytes(), "{guest}");
        }
        connection.send("0\r\n\r\n");
        assert!(
            connection.reply_after(head.expect("a head")).is_complete,
            "{guest}"
        );
    }
}

#[test]
fn a_long_body_passes_both_ways_through_a_host_that_holds_little_of_it() {
    const LENGTH: usize = 64 * MIB;
    for guest in BOTH_ECHOES {
        // It takes more CPU time than that, and earns it by moving.
        let host = TestHost::serve(guest, "--max-body 1GiB --cpu 20ms");
        assert_eq!(host.connect().post("/", "warm").text(), "warm", "{guest}");
        let before = host.memory();
        let mut connection = host.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n"
        ));
        let mut sender = connection.sender();
        let mut most = 0;
        let received = thread::scope(|scope| {
            scope.spawn(move || {
                let part: Vec<u8> = (0..MIB).map(|n| n as u8).collect();
                for _ in 0..LENGTH / MIB {
                    sender.write_all(&part).expect("sent");
                }
            });
            let head = connection.head();
            assert_eq!(head.status, 200, "{guest}");
            let mut received = 0;
            while let Some(data) = connection.chunk() {
                let fits = data
                    .iter()
                    .enumerate()
                    .all(|(n, byte)| *byte == (received + n) as u8);
                assert!(
                    fits,
                    "{guest}: changed within the {} bytes after {received}",
                    data.len()
                );
                received += data.len();
                most = most.max(host.memory());
            }
            received
        });
        assert_eq!(received, LENGTH, "{guest}");
        let grown = most.saturating_sub(before);
        assert!(grown < 32 * MIB, "{guest}: grew by {} MiB", grown / MIB);
    }
}

/// Writes until nothing is taken for a while: what the host and both sockets hold.
fn taken(mut sender: impl Write) -> usize {
    let part = vec![0; 64 * 1024];
    let mut taken = 0;
    while let Ok(length) = sender.write(&part) {
        taken += length;
        assert!(taken < 512 * MIB, "no end to what is taken");
    }
    taken
}

#[test]
fn a_client_that_does_not_read_its_answer_is_not_read_from_either() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "--max-body 1GiB");
        let connection =
            host.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
        let sender = connection.sender();
        sender
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        let taken = taken(sender);
        // Loopback sockets hold up to 10 MiB each way; the host a few hundred KiB.
        assert!(taken < 48 * MIB, "{guest}: took {} MiB", taken / MIB);
        assert!(host.memory() < 200 * MIB, "{guest}");
    }
}

#[test]
fn a_guest_that_does_not_read_stops_the_client() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-body 1GiB");
        let connection = host
            .send("POST /sleep?ms=20000 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
        let sender = connection.sender();
        sender
            .set_write_timeout(Some(Duration::from_millis(500)))
            .expect("set");
        let taken = taken(sender);
        assert!(taken < 24 * MIB, "{guest}: took {} MiB", taken / MIB);
    }
}

#[test]
fn a_client_that_does_not_read_stops_the_guest() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send("GET /bytes?n=1000000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connection.head().status, 200, "{guest}");
        assert!(connection.chunk().is_some(), "{guest}");
        // Another client is served meanwhile, and the host does not collect what nobody takes.
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        let memory = host.memory();
        assert!(memory < 200 * MIB, "{guest}: {} MiB", memory / MIB);
        drop(connection);
        let line = host.access_to("/bytes");
        assert_eq!(line.label(), "client-left,after-headers", "{guest}");
        assert!(
            line.number("http.response.body.size") < 48.0 * MIB as f64,
            "{guest}"
        );
    }
}

#[test]
fn each_part_of_a_response_is_sent_as_the_guest_writes_it() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let start = Instant::now();
        let mut connection = host.send("GET /drip?n=4&ms=250 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(connection.head().status, 200, "{guest}");
        assert_eq!(connection.chunk().as_deref(), Some(&b"."[..]), "{guest}");
        let first = start.elapsed();
        while connection.chunk().is_some() {}
        let all = start.elapsed();
        assert!(
            first < all - Duration::from_millis(500),
            "{guest}: {first:?} of {all:?}"
        );
    }
}

#[test]
fn a_long_transfer_outlives_the_deadline_as_long_as_it_moves() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 500ms");
        let reply = host.get("/drip?n=12&ms=100");
        assert_eq!(reply.text(), "............", "{guest}");
        assert!(reply.is_complete, "{guest}");
    }
}

#[test]
fn an_upload_may_be_slow_as_long_as_it_moves() {
    for guest in BOTH_ECHOES {
        let host = TestHost::serve(guest, "--timeout 1s");
        let mut connection = host.send(CHUNKED);
        let start = Instant::now();
        let mut parts = 0;
        connection.send("1\r\n.\r\n");
        let head = connection.head();
        while start.elapsed() < Duration::from_millis(1500) {
            parts += 1;
            assert_eq!(connection.chunk().expect("it goes on"), b".", "{guest}");
            assert!(
                connection.is_silent_for(Duration::from_millis(100)),
                "{guest}"
            );
            connection.send("1\r\n.\r\n");
        }
        assert!(parts > 3, "{guest}");
        connection.send("0\r\n\r\n");
        assert!(connection.reply_after(head).is_complete, "{guest}");
    }
}

#[test]
fn a_response_that_is_cut_gives_no_byte_after_the_cut() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send("GET /trap-mid-body HTTP/1.1\r\nHost: a\r\n\r\n");
        connection.head();
        assert_eq!(
            connection.chunk().as_deref(),
            Some(&b"partial"[..]),
            "{guest}"
        );
        let mut rest = Vec::new();
        // A reset is an end as good as any.
        let _ = connection.sender().read_to_end(&mut rest);
        assert_eq!(rest, b"", "{guest}");
    }
}
