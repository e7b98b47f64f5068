//! The door: how many it lets in, what it survives, how it closes.

use std::sync::Arc;

use tokio::time::timeout;

use super::support::{LONG, TestDoor, config, count, eventually};
use crate::server::Config;

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
const HOLD: &str = "GET /hold HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn beyond_the_ceiling_a_connection_waits_until_one_ends() {
    let door = TestDoor::open(Config {
        max_connections: 1,
        ..config()
    });
    let mut first = door.connect_and_send(HELLO).await;
    first.response().await;
    let mut second = door.connect_and_send(HELLO).await;
    first.send(HELLO.as_bytes()).await;
    first.response().await;
    assert_eq!(count(&door.counters.accepted), 1);

    drop(first);
    second.response().await;
    assert_eq!(count(&door.counters.accepted), 2);
    assert_eq!(count(&door.counters.open), 1);
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_nothing_else() {
    let door = TestDoor::open(config());
    let mut neighbour = door.connect_and_send(HELLO).await;
    neighbour.response().await;
    let mut victim = door
        .connect_and_send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(victim.rest().await, "");
    neighbour.send(HELLO.as_bytes()).await;
    neighbour.response().await;
    door.connect_and_send(HELLO).await.response().await;
    assert_eq!(count(&door.counters.panics), 1);
}

#[tokio::test]
async fn shutdown_closes_idle_connections_at_once_and_finishes_what_is_in_flight() {
    let door = TestDoor::open(config());
    let mut silent = door.connect().await;
    let mut idle = door.connect_and_send(HELLO).await;
    idle.response().await;
    let mut busy = door.connect_and_send(HOLD).await;
    eventually(|| count(&door.seen.requests) == 2).await;
    eventually(|| count(&door.counters.open) == 3).await;

    door.asker.ask();
    assert_eq!(idle.rest().await, "");
    assert_eq!(silent.rest().await, "");
    eventually(|| count(&door.counters.open) == 1).await;
    assert!(tokio::net::TcpStream::connect(door.addr).await.is_err());
    assert!(!door.task.is_finished());

    door.seen.release.notify_one();
    let (head, body) = busy.response().await;
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "held");
    drop(busy);
    timeout(LONG, door.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_request_whose_head_has_begun_is_served_after_shutdown_is_asked() {
    let door = TestDoor::open(config());
    let mut begun = door.connect_and_send("GET /hello HT").await;
    let mut idle = door.connect_and_send(HELLO).await;
    idle.response().await;
    eventually(|| count(&door.counters.open) == 2).await;
    door.asker.ask();
    assert_eq!(idle.rest().await, "");
    begun.send(b"TP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(begun.response().await.1, "hello");
}

#[tokio::test]
async fn dropping_the_door_drops_what_is_in_flight() {
    let door = TestDoor::open(config());
    let mut waiting = door
        .connect_and_send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    eventually(|| count(&door.seen.requests) == 1).await;
    door.task.abort();
    assert_eq!(waiting.rest().await, "");
    eventually(|| count(&door.seen.dropped) == 1).await;
    eventually(|| count(&door.counters.open) == 0).await;
    assert_eq!(Arc::strong_count(&door.counters), 1);
}
