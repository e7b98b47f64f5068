//! HTTP/2 as a client sees it: one stream's trouble is that stream's, and connections end.

use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::h2_client::{
    DATA, END_STREAM, GOAWAY, H2Client, HEADERS, PREFACE, RST_STREAM, WINDOW_UPDATE,
};
use super::support::{LONG, SHORT, TestDoor, config, count, eventually};
use crate::server::Config;

const WINDOW: u32 = 65_535;

#[tokio::test]
async fn http2_is_spoken_on_the_same_port() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/hello").await;
    let head = client.expect(HEADERS, 1).await;
    // `:status: 200` and `content-length` of the static table.
    assert_eq!(head.payload[0], 0x88);
    assert!(head.payload.windows(2).any(|bytes| bytes == [0x0f, 0x0d]));
    let data = client.expect(DATA, 1).await;
    assert_eq!(data.payload, b"hello");
    assert_eq!(data.flags & END_STREAM, END_STREAM);
}

#[tokio::test]
async fn the_preface_may_arrive_a_byte_at_a_time() {
    let door = TestDoor::open(config());
    let mut client = H2Client {
        raw: door.connect().await,
        answers_pings: true,
        answered_pings: 0,
    };
    for byte in PREFACE {
        client.raw.send(&[*byte]).await;
    }
    client.send_settings(WINDOW).await;
    client.get(1, "/hello").await;
    assert_eq!(client.expect(DATA, 1).await.payload, b"hello");
}

#[tokio::test]
async fn a_stream_that_gets_no_window_is_reset_and_the_others_go_on() {
    // A chunk at a time, and one large chunk.
    for path in ["/endless", "/large"] {
        for window in [0, 1, 40_000] {
            let door = TestDoor::open(Config {
                write_stall_timeout: SHORT,
                h2_ping_interval: SHORT / 4,
                h2_ping_timeout: 10 * SHORT,
                ..config()
            });
            let mut client = H2Client::connect(&door, window).await;
            client.get(1, path).await;
            client.expect(HEADERS, 1).await;
            let began = Instant::now();
            client.expect(RST_STREAM, 1).await;
            assert!(began.elapsed() > SHORT / 2);
            assert!(client.answered_pings > 0, "that it is there is no progress");
            assert_eq!(count(&door.counters.stalled_streams), 1);
            if path == "/endless" {
                eventually(|| count(&door.seen.dropped) == 1).await;
                assert_eq!(count(&door.seen.stalled), 1);
            }

            client.get(3, "/hello").await;
            client.expect(HEADERS, 3).await;
            if window < 5 {
                client.send(WINDOW_UPDATE, 0, 3, &[0, 0, 1, 0]).await;
            }
            client.expect(DATA, 3).await;
            assert_eq!(count(&door.counters.open), 1);
            assert_eq!(count(&door.counters.unanswered_pings), 0);
        }
    }
}

#[tokio::test]
async fn a_stream_that_waits_for_its_handler_is_not_stalled() {
    let door = TestDoor::open(Config {
        write_stall_timeout: SHORT,
        idle_timeout: SHORT,
        ..config()
    });
    let mut client = H2Client::connect(&door, 4).await;
    client.get(1, "/trickle").await;
    assert_eq!(client.expect(DATA, 1).await.payload, b"drop");
    client.get(3, "/hold").await;
    let began = Instant::now();
    eventually(|| began.elapsed() > 3 * SHORT).await;
    door.seen.release.notify_one();
    client.expect(HEADERS, 3).await;
    assert_eq!(count(&door.counters.stalled_streams), 0);
}

#[tokio::test]
async fn a_slow_reader_keeps_its_stream() {
    let door = TestDoor::open(Config {
        write_stall_timeout: 2 * SHORT,
        ..config()
    });
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/endless").await;
    let began = Instant::now();
    while began.elapsed() < 6 * SHORT {
        let taken = client.expect(DATA, 1).await.payload.len();
        let taken = u32::try_from(taken).unwrap().to_be_bytes();
        client.send(WINDOW_UPDATE, 0, 0, &taken).await;
        client.send(WINDOW_UPDATE, 0, 1, &taken).await;
        tokio::time::sleep(SHORT / 10).await;
    }
    assert_eq!(count(&door.counters.stalled_streams), 0);
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_at_all_loses_its_connection() {
    let door = TestDoor::open(Config {
        write_stall_timeout: SHORT,
        ..config()
    });
    let mut client = H2Client::connect(&door, i32::MAX as u32).await;
    client
        .send(
            WINDOW_UPDATE,
            0,
            0,
            &(i32::MAX as u32 - WINDOW).to_be_bytes(),
        )
        .await;
    client.get(1, "/endless").await;
    client.get(3, "/wait").await;
    eventually(|| count(&door.counters.open) == 0 && count(&door.counters.accepted) == 1).await;
    assert_eq!(count(&door.counters.stalled), 1);
    eventually(|| count(&door.seen.dropped) == 2).await;
    assert_eq!(
        count(&door.seen.stalled),
        2,
        "a stream goes with its connection"
    );
}

#[tokio::test]
async fn a_reset_cancels_its_request_and_no_other() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/wait").await;
    client.get(3, "/hold").await;
    eventually(|| count(&door.seen.requests) == 2).await;
    client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
    let left = Instant::now();
    eventually(|| count(&door.seen.dropped) == 1).await;
    assert!(left.elapsed() < Duration::from_millis(100));
    door.seen.release.notify_one();
    assert_eq!(client.expect(DATA, 3).await.payload, b"held");
}

#[tokio::test]
async fn a_client_that_leaves_cancels_all_its_requests() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/wait").await;
    client.get(3, "/wait").await;
    eventually(|| count(&door.seen.requests) == 2).await;
    drop(client);
    let left = Instant::now();
    eventually(|| count(&door.seen.dropped) == 2).await;
    assert!(left.elapsed() < Duration::from_millis(100));
    eventually(|| count(&door.counters.open) == 0).await;
}

#[tokio::test]
async fn dropping_the_door_drops_streams_in_flight() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/wait").await;
    eventually(|| count(&door.seen.requests) == 1).await;
    door.task.abort();
    eventually(|| count(&door.seen.dropped) == 1).await;
}

#[tokio::test]
async fn a_panic_resets_its_stream_and_no_other() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/panic").await;
    client.expect(RST_STREAM, 1).await;
    client.get(3, "/hello").await;
    assert_eq!(client.expect(DATA, 3).await.payload, b"hello");
    eventually(|| count(&door.counters.panics) == 1).await;
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_away() {
    for answers_pings in [true, false] {
        let door = TestDoor::open(Config {
            idle_timeout: SHORT,
            linger_timeout: SHORT,
            ..config()
        });
        let mut client = H2Client::connect(&door, WINDOW).await;
        client.answers_pings = answers_pings;
        client.get(1, "/hello").await;
        client.expect(DATA, 1).await;
        assert_eq!(client.next().await.unwrap().kind, GOAWAY);
        while client.next().await.is_some() {}
        eventually(|| count(&door.counters.open) == 0).await;
    }
}

#[tokio::test]
async fn shutdown_says_goaway_and_finishes_what_is_in_flight() {
    let door = TestDoor::open(config());
    let mut idle = H2Client::connect(&door, WINDOW).await;
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/hold").await;
    eventually(|| count(&door.seen.requests) == 1).await;
    eventually(|| count(&door.counters.open) == 2).await;
    door.asker.ask();
    assert_eq!(client.next().await.unwrap().kind, GOAWAY);
    while idle.next().await.is_some() {}
    door.seen.release.notify_one();
    loop {
        let frame = client.next().await.expect("the response came first");
        if frame.kind == DATA {
            assert_eq!(frame.payload, b"held");
            break;
        }
    }
    while client.next().await.is_some() {}
    drop((idle, client));
    timeout(LONG, door.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_closed() {
    let door = TestDoor::open(Config {
        h2_ping_interval: SHORT,
        h2_ping_timeout: SHORT,
        ..config()
    });
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.answers_pings = false;
    client.get(1, "/wait").await;
    while client.next().await.is_some() {}
    eventually(|| count(&door.seen.dropped) == 1).await;
    drop(client);
    eventually(|| count(&door.counters.open) == 0).await;
    let mut events = door.counters.events();
    events.retain(|&(_, count)| count > 0);
    assert_eq!(events, [("unanswered-ping", 1)]);
}

#[tokio::test]
async fn a_client_that_stops_after_the_preface_is_closed() {
    let door = TestDoor::open(Config {
        idle_timeout: SHORT,
        linger_timeout: SHORT,
        ..config()
    });
    let mut client = H2Client {
        raw: door.connect().await,
        answers_pings: true,
        answered_pings: 0,
    };
    client.raw.send(PREFACE).await;
    while client.next().await.is_some() {}
    eventually(|| count(&door.counters.open) == 0).await;
}

#[tokio::test]
async fn a_stream_beyond_the_ceiling_is_refused() {
    let door = TestDoor::open(Config {
        max_h2_streams: 2,
        ..config()
    });
    let mut client = H2Client::connect(&door, WINDOW).await;
    client.get(1, "/wait").await;
    eventually(|| count(&door.seen.requests) == 1).await;
    client.get(3, "/wait").await;
    client.get(5, "/hello").await;
    let refused = client.expect(RST_STREAM, 5).await;
    assert_eq!(refused.payload, 7_u32.to_be_bytes());
    eventually(|| count(&door.seen.requests) == 2).await;
}

#[tokio::test]
async fn a_header_list_of_too_many_bytes_is_431() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    // Nine fields of 16,000 bytes: the list is twice too large, and neither a frame nor the number of frames is.
    client.begin_get(1, "/hello").await;
    let mut field = vec![0, 1, b'x', 0x7f, 0x81, 0x7c];
    field.extend([b'y'; 16_000]);
    for number in 0..9 {
        client.go_on(1, &field, number == 8).await;
    }
    let head = client.expect(HEADERS, 1).await;
    // `:status` is not 431 in the static table: a literal, and "431" in Huffman code.
    assert_eq!(head.payload[..5], [0x48, 0x83, 0x69, 0x90, 0xff]);
    assert_eq!(count(&door.seen.requests), 0);
}

#[tokio::test]
async fn a_client_that_resets_what_it_asks_for_on_and_on_is_sent_away() {
    let door = TestDoor::open(config());
    let mut client = H2Client::connect(&door, WINDOW).await;
    for number in 0..1000 {
        client.get(2 * number + 1, "/wait").await;
        client
            .send(RST_STREAM, 0, 2 * number + 1, &8_u32.to_be_bytes())
            .await;
        if count(&door.counters.open) == 0 && number > 100 {
            break;
        }
    }
    loop {
        match client.next().await {
            Some(frame) if frame.kind == GOAWAY => {
                assert_eq!(frame.payload[4..8], 11_u32.to_be_bytes());
                break;
            }
            Some(_) => {}
            None => break,
        }
    }
    eventually(|| count(&door.seen.dropped) == count(&door.seen.requests)).await;
}
