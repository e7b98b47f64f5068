//! Clients that leave, and the host that stops.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::*;

fn request(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n")
}

#[test]
fn a_client_that_leaves_cancels_its_guest_within_100_ms() {
    alone();
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        // The best of three: on a busy machine it is we who are late.
        let noticed = (0..3).map(|n| {
            let path = format!("/never?n={n}");
            let connection = host.send(request(&path));
            eventually("a full host", || is_full(&host).then_some(()));
            let left = Instant::now();
            drop(connection);
            let line = host.access_where("the line of who left", |line| {
                line.text("url.path") == "/never" && line.text("url.query") == format!("n={n}")
            });
            assert_eq!(
                (line.status(), line.label()),
                (499, "client-left"),
                "{guest}"
            );
            left.elapsed()
        });
        let soonest = noticed.min().expect("three");
        assert!(soonest < Duration::from_millis(100), "{guest}: {soonest:?}");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}: its place is free");
    }
}

/// Whether a request waits for the only place.
fn is_full(host: &TestHost) -> bool {
    let connection = host.send(request("/ok"));
    connection.is_silent_for(Duration::from_millis(50))
}

#[test]
fn a_client_that_leaves_ends_a_guest_that_spins() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--cpu 20s --max-concurrent-requests 1");
        let connection = host.send(request("/spin"));
        eventually("a full host", || is_full(&host).then_some(()));
        drop(connection);
        let line = host.access_to("/spin");
        assert_eq!(
            (line.status(), line.label()),
            (499, "client-left"),
            "{guest}"
        );
        assert!(line.number("host.guest.cpu_time") < 10.0, "{guest}");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn a_client_that_leaves_while_it_sends_cancels_its_guest() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let head = "POST /sleep?ms=60000 HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        let connection = host.send(format!("{head}some of it"));
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
        drop(connection);
        let line = host.access_to("/sleep");
        assert_eq!(
            (line.status(), line.label()),
            (499, "client-left"),
            "{guest}"
        );
    }
}

#[test]
fn a_client_that_leaves_in_the_middle_of_its_answer_is_logged_as_such() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.send(request("/drip?n=1000&ms=20"));
        connection.head();
        assert!(connection.chunk().is_some(), "{guest}");
        drop(connection);
        let line = host.access_to("/drip");
        assert_eq!(
            (line.status(), line.label()),
            (200, "client-left,after-headers"),
            "{guest}"
        );
    }
}

#[test]
fn a_signal_to_stop_lets_requests_in_flight_finish() {
    for signal in [Signal::TERM, Signal::INT] {
        for guest in BOTH_FAULTS {
            let host = TestHost::serve(guest, "");
            let mut waiting = host.send(request("/sleep?ms=500"));
            let mut streaming = host.send(request("/drip?n=5&ms=100"));
            let head = streaming.head();
            assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
            host.signal(signal);
            assert_eq!(waiting.reply().text(), "slept\n", "{guest}");
            let streamed = streaming.reply_after(head);
            assert_eq!(streamed.text(), ".....", "{guest}");
            assert!(streamed.is_complete, "{guest}");
            let ended = host.ended();
            assert_eq!(ended.code, Some(0), "{guest}: {ended:?}");
            assert_eq!(
                ended.stdout.len(),
                3,
                "{guest}: every exchange has its line"
            );
        }
    }
}

#[test]
fn idle_connections_are_closed_at_once_and_no_new_ones_taken() {
    let host = TestHost::serve(FAULTS, "");
    let mut idle = host.connect();
    assert_eq!(idle.get("/ok").text(), "ok\n");
    let mut silent = host.connect();
    let mut busy = host.send(request("/sleep?ms=1000"));
    assert_eq!(host.get("/ok").text(), "ok\n");
    let address = host.address;
    let stopped = Instant::now();
    host.signal(Signal::TERM);
    assert!(idle.is_closed());
    assert!(silent.is_closed());
    assert!(
        stopped.elapsed() < Duration::from_millis(900),
        "{:?}",
        stopped.elapsed()
    );
    eventually("a refused connection", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    });
    let last = busy.reply();
    assert_eq!(last.text(), "slept\n");
    assert!(busy.is_closed());
    assert_eq!(host.ended().code, Some(0));
}

#[test]
fn an_h2_connection_is_told_to_go_away_and_its_streams_finish() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut connection = host.h2();
        let sleep = http::Request::get("http://a/sleep?ms=500")
            .body(())
            .expect("a request");
        let (response, _) = connection.send(sleep, true);
        assert_eq!(connection.get("/ok").text(), "ok\n", "{guest}");
        host.signal(Signal::TERM);
        assert_eq!(connection.reply(response).text(), "slept\n", "{guest}");
        assert!(
            connection.ended().is_ok(),
            "{guest}: GOAWAY without an error"
        );
        assert_eq!(host.ended().code, Some(0), "{guest}");
    }
}

#[test]
fn a_host_without_requests_stops_at_once() {
    let host = TestHost::serve(FAULTS, "");
    let _idle = host.h2();
    let stopped = Instant::now();
    assert_eq!(host.stop().code, Some(0));
    assert!(
        stopped.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopped.elapsed()
    );
}

#[test]
fn requests_that_are_still_there_when_the_drain_is_over_are_cut() {
    for guest in BOTH_FAULTS {
        let places = "--max-concurrent-requests 2 --queue-timeout 50ms";
        let host = TestHost::serve(guest, &format!("{places} --drain-timeout 300ms"));
        let mut stuck = host.send(request("/never"));
        let mut streaming = host.send(request("/drip?n=1000&ms=50"));
        assert_eq!(streaming.head().status, 200, "{guest}");
        eventually("both to have begun", || {
            (host.get("/ok").status() == 503).then_some(())
        });
        host.signal(Signal::TERM);
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{guest}");
        assert!(
            ended.stderr_text().contains("their time was up"),
            "{guest}: {ended:?}"
        );
        assert!(stuck.try_head().is_none(), "{guest}");
        while streaming.chunk().is_some() {}
        let mut labels: Vec<String> = ended
            .stdout
            .iter()
            .map(|line| Access::parse(line))
            .filter(|line| line.text("url.path") != "/ok")
            .map(|line| line.label().to_owned())
            .collect();
        labels.sort();
        assert_eq!(labels, ["draining", "draining,after-headers"], "{guest}");
    }
}

#[test]
fn a_second_signal_ends_it_now() {
    for (first, second) in [
        (Signal::TERM, Signal::TERM),
        (Signal::INT, Signal::INT),
        (Signal::TERM, Signal::INT),
    ] {
        let host = TestHost::serve(FAULTS, "");
        let mut streaming = host.send(request("/drip?n=1000&ms=50"));
        // Its head shows that it has come: one that has not would keep nobody.
        assert_eq!(streaming.head().status, 200);
        host.signal(first);
        host.says("stopping");
        host.signal(second);
        let start = Instant::now();
        assert_eq!(host.ended().code, Some(130));
        assert!(start.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_request_that_waits_for_a_place_hears_that_the_host_stops() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--max-concurrent-requests 1");
        let mut first = host.send(request("/drip?n=10&ms=100"));
        let head = first.head();
        let mut waiting = host.send(request("/ok"));
        assert!(waiting.is_silent_for(Duration::from_millis(100)), "{guest}");
        host.signal(Signal::TERM);
        let reply = waiting.reply();
        assert_eq!(reply.status(), 503, "{guest}");
        assert_eq!(reply.header("retry-after"), Some("1"), "{guest}");
        assert_eq!(host.access(&reply).label(), "draining", "{guest}");
        assert!(first.reply_after(head).is_complete, "{guest}");
        assert_eq!(host.ended().code, Some(0), "{guest}");
    }
}

#[test]
fn work_after_the_response_is_waited_for_when_the_host_stops() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        assert_eq!(host.get("/after?ms=500").text(), "answered\n", "{guest}");
        let ended = host.stop();
        assert_eq!(ended.code, Some(0), "{guest}");
        assert!(
            ended.stderr_text().contains("work done"),
            "{guest}: {ended:?}"
        );
    }
}

#[test]
fn running_out_of_file_descriptors_is_waited_out() {
    let host = TestHost::serve_with_open_files(60, HELLO, "");
    let mut first = host.connect();
    assert_eq!(first.get("/").status(), 200);
    let mut crowd: Vec<_> = (0..80).map(|_| host.send(request("/"))).collect();
    assert_eq!(first.get("/").status(), 200, "who is in is served");
    let served = crowd
        .iter_mut()
        .filter(|one| !one.is_silent_for(Duration::from_millis(20)))
        .count();
    assert!((1..80).contains(&served), "{served} of 80");
    // The kernel holds the rest until there is room.
    crowd.drain(..60);
    drop(first);
    let start = Instant::now();
    for mut one in crowd {
        assert_eq!(one.reply().status(), 200);
    }
    assert_eq!(host.get("/").text(), "Hello from WebAssembly!\n");
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(host.stop().code, Some(0));
}
