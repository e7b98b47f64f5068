//! Each limit that can be set is enforced: deadline, CPU, memory, connections, and the gate.

use std::thread;
use std::time::{Duration, Instant};

use crate::support::*;

const SLEEP: &str = "GET /sleep?ms=60000 HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn the_deadline_ends_the_wait_and_not_before() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 600ms");
        assert_eq!(host.get("/sleep?ms=200").text(), "slept\n", "{guest}");
        let start = Instant::now();
        assert_eq!(host.get("/never").status(), 504, "{guest}");
        assert!(start.elapsed() >= Duration::from_millis(600), "{guest}");
        assert!(start.elapsed() < Duration::from_secs(5), "{guest}");
    }
}

#[test]
fn waiting_costs_no_cpu() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--cpu 100ms");
        let reply = host.get("/sleep?ms=500");
        assert_eq!(reply.text(), "slept\n", "{guest}");
        let cpu = host.access(&reply).number("host.guest.cpu_time");
        assert!(cpu < 0.1, "{guest}: {cpu}");
    }
}

#[test]
fn the_cpu_budget_ends_a_loop_wherever_it_is() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--cpu 50ms");
        let instead = host.get("/spin");
        assert_eq!(instead.status(), 500, "{guest}");
        let line = host.access(&instead);
        assert_eq!(line.label(), "cpu-limit", "{guest}");
        let used = line.number("host.guest.cpu_time");
        assert!((0.05..0.5).contains(&used), "{guest}: {used}");

        let after_headers = host.get("/spin-after-headers");
        assert!(!after_headers.is_complete, "{guest}");
        assert_eq!(
            host.access(&after_headers).label(),
            "cpu-limit,after-headers",
            "{guest}"
        );

        let after_response = host.get("/spin-after-response");
        assert_eq!(after_response.text(), "answered\n", "{guest}");
        host.says("CPU budget");
    }
}

#[test]
fn a_guest_within_its_cpu_budget_is_left_alone() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--cpu 20s");
        let reply = host.get("/burn?ms=100");
        assert_eq!(reply.text(), "burnt\n", "{guest}");
        assert_eq!(host.access(&reply).label(), "", "{guest}");
    }
}

#[test]
fn memory_is_what_it_says_to_the_page() {
    for guest in BOTH_FAULTS {
        for mib in [8, 32] {
            let host = TestHost::serve(guest, &format!("--memory {mib}MiB"));
            let got: usize = host
                .get("/grow-politely")
                .text()
                .trim()
                .parse()
                .expect("a number");
            // A guest starts with its stack and data: about 1 MiB of Rust's.
            assert!((mib - 3..mib).contains(&got), "{guest}: {got} of {mib} MiB");
        }
    }
}

#[test]
fn memory_and_bodies_are_limited_without_a_flag() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let got: usize = host
            .get("/grow-politely")
            .text()
            .trim()
            .parse()
            .expect("a number");
        assert!((125..128).contains(&got), "{guest}: {got} of 128 MiB");
        for (length, status) in [(64 << 20, 100), ((64 << 20) + 1, 413)] {
            let head = format!(
                "POST /read HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n"
            );
            assert_eq!(host.send(head).head().status, status, "{guest}: {length}");
        }
    }
}

#[test]
fn a_guest_that_asks_for_too_much_gets_none_of_it() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--memory 64MiB");
        host.get("/ok");
        let before = host.memory();
        for _ in 0..5 {
            assert_eq!(host.get("/alloc").status(), 500, "{guest}");
        }
        assert!(host.memory() < before + (128 << 20), "{guest}");
    }
}

#[test]
fn what_the_host_keeps_for_a_guest_is_limited_too() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.get("/table");
        assert_eq!(host.access(&reply).label(), "memory-limit", "{guest}");
    }
}

#[test]
fn what_the_host_keeps_for_a_guest_counts_as_its_memory() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--memory 64MiB");
        host.get("/ok");
        let before = host.peak_memory();
        for _ in 0..3 {
            let reply = host.get("/hoard");
            assert_eq!(reply.status(), 500, "{guest}");
            assert_eq!(host.access(&reply).label(), "memory-limit", "{guest}");
        }
        assert!(host.peak_memory() < before + (256 << 20), "{guest}");
    }
}

#[test]
fn what_lies_in_bodies_that_nobody_reads_counts_as_its_guests_memory() {
    // In 0.3 a body is the guest's own until it is read.
    let host = TestHost::serve(FAULTS, "--memory 64MiB");
    host.get("/ok");
    let before = host.peak_memory();
    for _ in 0..3 {
        let reply = host.get("/hoard-bodies");
        assert_eq!(reply.status(), 500);
        assert_eq!(host.access(&reply).label(), "memory-limit");
    }
    assert!(host.peak_memory() < before + (256 << 20));
}

#[test]
fn the_head_of_a_response_is_limited() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let fits = host.get("/big-head?n=60");
        assert_eq!(fits.text(), "accepted 60\n", "{guest}");
        assert_eq!(fits.header("x-059").map(str::len), Some(1024), "{guest}");
        // 0.2 ends the guest that goes on, 0.3 refuses the header.
        let over = host.get("/big-head?n=300");
        let bytes: usize = over
            .head
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(bytes <= 128 * 1024, "{guest}: {bytes}");
        assert!(
            over.status() == 500 || over.text() != "accepted 300\n",
            "{guest}"
        );
    }
}

#[test]
fn a_request_that_finds_no_place_waits_for_one() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        let mut first = host.send("GET /sleep?ms=300 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        assert_eq!(first.reply().text(), "slept\n", "{guest}");
    }
}

#[test]
fn a_request_without_even_a_place_to_wait_is_503_at_once() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        // One runs, one waits, the third is refused; which of them comes when is not ours to say.
        let start = Instant::now();
        let mut connections: Vec<_> = (0..3).map(|_| host.send(SLEEP)).collect();
        let line = eventually("a refusal", || host.accesses().first().cloned());
        assert_eq!((line.status(), line.label()), (503, "overload"), "{guest}");
        assert!(
            start.elapsed() < Duration::from_secs(4),
            "{guest}: it waited"
        );
        let refused = connections
            .iter_mut()
            .filter(|connection| !connection.is_silent_for(Duration::from_millis(50)))
            .map(Connection::reply)
            .collect::<Vec<_>>();
        let [reply] = &refused[..] else {
            panic!("{guest}: {refused:?}")
        };
        assert_eq!(reply.status(), 503, "{guest}");
        assert_eq!(reply.header("retry-after"), Some("1"), "{guest}");

        for _ in 0..10 {
            assert_eq!(host.get("/ok").status(), 503, "{guest}");
        }
        let told = host.says("label=overload");
        assert!(told.contains("`--max-concurrent-requests`"), "{told}");
        let said = host.stderr();
        let lines = said.iter().filter(|line| line.contains("overload"));
        assert_eq!(lines.count(), 1, "{guest}: no flood: {said:#?}");
    }
}

#[test]
fn a_request_does_not_wait_for_a_place_past_its_deadline() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1 --timeout 400ms");
        let mut first = host.send("GET /drip?n=20&ms=100 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(first.head().status, 200, "{guest}");
        let reply = host.get("/ok");
        assert_eq!(reply.status(), 504, "{guest}");
        assert_eq!(host.access(&reply).label(), "deadline", "{guest}");
    }
}

#[test]
fn a_permit_is_held_until_the_last_byte() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        let mut slow = host.send("GET /drip?n=5&ms=100 HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = slow.head();
        thread::scope(|scope| {
            let quick = scope.spawn(|| host.get("/ok").text());
            assert_eq!(slow.reply_after(head).text(), ".....", "{guest}");
            assert_eq!(quick.join().expect("an answer"), "ok\n", "{guest}");
        });
        host.access_to("/ok");
        let order = host.paths();
        assert_eq!(
            order.first().map(String::as_str),
            Some("/drip"),
            "{guest}: {order:?}"
        );
    }
}

#[test]
fn connections_over_the_limit_wait_for_one_to_end() {
    let host = TestHost::serve(FAULTS, "--max-concurrent-connections 2");
    let mut first = host.connect();
    let mut second = host.connect();
    assert_eq!(first.get("/ok").text(), "ok\n");
    assert_eq!(second.get("/ok").text(), "ok\n");
    let mut third = host.send("GET /count HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(third.is_silent_for(Duration::from_millis(300)));
    drop(first);
    assert_eq!(third.reply().text(), "1\n");
}

#[test]
fn the_head_of_a_request_may_be_as_large_as_it_says() {
    let host = TestHost::serve(FAULTS, "--max-request-head 2KiB --max-request-headers 4");
    let with = |fields: &str| {
        let request = format!("GET /ok HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        host.send(request).reply().status()
    };
    let field = |length: usize| format!("X: {}\r\n", "x".repeat(length));
    assert_eq!(with(&field(1_900)), 200);
    assert_eq!(with(&field(2_100)), 431);
    assert_eq!(with(&field(1).repeat(3)), 200);
    assert_eq!(with(&field(1).repeat(4)), 431);
}

#[test]
fn the_head_of_a_response_may_be_as_large_as_it_says() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-response-head 1MiB");
        let reply = host.get("/big-head?n=300");
        assert_eq!(reply.text(), "accepted 300\n", "{guest}");
        assert_eq!(reply.header("x-299").map(str::len), Some(1024), "{guest}");
    }
}

#[test]
fn a_silent_client_and_an_idle_one_are_closed_in_their_own_time() {
    let host = TestHost::serve(FAULTS, "--first-byte-timeout 300ms --idle-timeout 600ms");
    let start = Instant::now();
    assert!(host.connect().is_closed());
    assert!((300..3_000).contains(&start.elapsed().as_millis()));

    let mut kept = host.connect();
    let asked = Instant::now();
    assert_eq!(kept.get("/ok").text(), "ok\n");
    let rested = Instant::now();
    assert!(kept.is_closed());
    // It may have rested for a moment before we have read its answer.
    assert!(asked.elapsed().as_millis() >= 600);
    assert!(rested.elapsed().as_millis() < 6_000);
}

#[test]
fn a_client_that_takes_no_bytes_loses_its_connection_in_time() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--write-timeout 300ms");
        let mut stalled = host.send("GET /bytes?n=100000000 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(stalled.head().status, 200, "{guest}");
        let line = host.access_to("/bytes");
        assert_eq!(line.label(), "slow-client,after-headers", "{guest}");
        assert!(
            (0.3..5.0).contains(&line.number("http.server.request.duration")),
            "{guest}"
        );
    }
}

#[test]
fn a_client_that_takes_no_bytes_of_a_stream_loses_the_stream_in_time() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--write-timeout 300ms");
        let mut client = host.h2();
        let request = http::Request::get("http://a/bytes?n=100000000");
        let (response, _) = client.send(request.body(()).expect("a request"), true);
        let unread = client.head(response);
        let line = host.access_to("/bytes");
        assert_eq!(line.label(), "slow-client,after-headers", "{guest}");
        // What it holds of the connection's window is for others again.
        drop(unread);
        assert_eq!(client.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn a_body_has_a_deadline_of_its_own() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 20s --body-timeout 300ms");
        let stuck = host.get("/drip?n=2&ms=60000");
        assert_eq!(stuck.status(), 200, "{guest}");
        assert!(!stuck.is_complete, "{guest}");
        assert_eq!(
            host.access(&stuck).label(),
            "deadline,after-headers",
            "{guest}"
        );
        // One that moves is left alone, however long it takes.
        let moving = host.get("/drip?n=12&ms=60");
        assert_eq!(moving.text(), "............", "{guest}");
    }
}

#[test]
fn the_wait_for_a_place_is_as_long_as_it_says_and_as_many_may_wait() {
    for guest in BOTH_FAULTS {
        let flags = "--max-concurrent-requests 1 --max-waiting-requests 2 --queue-timeout 1s";
        let host = TestHost::serve(guest, flags);
        let mut first = host.send("GET /drip?n=40&ms=100 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(first.head().status, 200, "{guest}");
        let start = Instant::now();
        let mut waiting: Vec<_> = (0..4).map(|_| host.send(SLEEP)).collect();
        for one in &mut waiting {
            assert_eq!(one.reply().status(), 503, "{guest}");
        }
        assert!(start.elapsed() < Duration::from_secs(3), "{guest}");
        let lines = eventually("a line of each", || {
            Some(host.accesses()).filter(|lines| lines.len() == 4)
        });
        let waits: Vec<bool> = lines
            .iter()
            .map(|line| line.number("http.server.request.duration") >= 1.0)
            .collect();
        assert_eq!(
            waits,
            [false, false, true, true],
            "{guest}: two at once, two in time"
        );
    }
}
