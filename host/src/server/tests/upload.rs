//! Request bodies that come slowly.

use std::time::{Duration, Instant};

use super::h2_client::{DATA, H2Client, HEADERS};
use super::support::{SHORT, TestDoor, config, count};
use crate::server::Config;

fn strict() -> Config {
    Config {
        min_body_rate: 1_000,
        body_grace: 2 * SHORT,
        ..config()
    }
}

#[tokio::test]
async fn a_body_below_the_minimum_fails_and_is_counted() {
    let door = TestDoor::open(strict());
    let mut client = door
        .connect_and_send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        .await;
    let began = Instant::now();
    // A byte now and then is no rate.
    while count(&door.counters.slow_bodies) == 0 {
        assert!(began.elapsed() < Duration::from_secs(10));
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.0, b"x").await;
        tokio::time::sleep(SHORT / 10).await;
    }
    assert!(began.elapsed() > SHORT);
    assert_eq!(client.response().await.1, "cut");
}

#[tokio::test]
async fn a_stream_below_the_minimum_fails_and_its_neighbours_do_not() {
    let door = TestDoor::open(strict());
    let mut client = H2Client::connect(&door, 65_535).await;
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/echo"),
        (":authority", "a"),
    ];
    client.send(HEADERS, 4, 1, &H2Client::list(post)).await;
    client.expect(HEADERS, 1).await;
    assert_eq!(client.expect(DATA, 1).await.payload, b"cut");
    assert_eq!(count(&door.counters.slow_bodies), 1);
    client.get(3, "/hello").await;
    assert_eq!(client.expect(DATA, 3).await.payload, b"hello");
}

#[tokio::test]
async fn a_body_above_the_minimum_may_take_long_and_pause_for_what_it_was_ahead() {
    let door = TestDoor::open(strict());
    let mut client = door
        .connect_and_send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4000\r\n\r\n")
        .await;
    for _ in 0..10 {
        client.send(&[b'x'; 400]).await;
        tokio::time::sleep(SHORT / 2).await;
    }
    assert_eq!(client.response().await.1.len(), 4_000);
    assert_eq!(count(&door.counters.slow_bodies), 0);
}

#[tokio::test]
async fn once_the_answer_has_begun_there_is_no_minimum() {
    let door = TestDoor::open(strict());
    let mut client = door
        .connect_and_send("POST /converse HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        .await;
    client.until(b"\r\n\r\n").await;
    for byte in [b"a", b"b", b"c"] {
        tokio::time::sleep(3 * SHORT).await;
        client.send(byte).await;
        client.until(byte).await;
    }
    assert_eq!(count(&door.counters.slow_bodies), 0);
}
