//! A client that leaves cancels what it asked for, whatever is unread. What does not fit into our receive buffer is not
//! covered: its end stands behind it, in the client's system, until someone reads.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use super::support::{TestDoor, config, count, eventually};

const SOON: Duration = Duration::from_millis(100);

async fn leaving_drops_the_request(sent: &str) {
    let door = TestDoor::open(config());
    let client = door.connect_and_send(sent).await;
    eventually(|| count(&door.seen.requests) == 1).await;
    drop(client);
    let left = Instant::now();
    eventually(|| count(&door.seen.dropped) == 1).await;
    assert!(left.elapsed() < SOON, "{:?}", left.elapsed());
    eventually(|| count(&door.counters.left) == 1).await;
    assert_eq!(count(&door.seen.stalled), 0);
}

#[tokio::test]
async fn with_nothing_unread() {
    leaving_drops_the_request("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n").await;
}

#[tokio::test]
async fn with_a_body_half_sent() {
    leaving_drops_the_request("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n123")
        .await;
}

#[tokio::test]
async fn with_more_of_the_body_unread_than_hyper_takes() {
    let head = "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n";
    leaving_drops_the_request(&format!("{head}{}", "x".repeat(40_000))).await;
}

#[tokio::test]
async fn with_a_pipelined_request_behind() {
    let get = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    leaving_drops_the_request(&format!("{get}{get}")).await;
}

#[tokio::test]
async fn with_many_pipelined_requests_behind() {
    let get = "GET /wait HTTP/1.1\r\nHost: a\r\n\r\n";
    leaving_drops_the_request(&get.repeat(1000)).await;
}

#[tokio::test]
async fn with_an_expectation_that_nobody_met() {
    leaving_drops_the_request(
        "POST /wait HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n",
    )
    .await;
}

#[tokio::test]
async fn by_closing_only_the_sending_half_too() {
    let door = TestDoor::open(config());
    let mut client = door
        .connect_and_send("POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n12345")
        .await;
    eventually(|| count(&door.seen.requests) == 1).await;
    client.0.shutdown().await.unwrap();
    let left = Instant::now();
    eventually(|| count(&door.seen.dropped) == 1).await;
    assert!(left.elapsed() < SOON);
}

#[tokio::test]
async fn while_a_response_streams() {
    leaving_drops_the_request("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
}

#[tokio::test]
async fn a_client_that_stays_is_not_taken_for_one_that_left() {
    let door = TestDoor::open(config());
    let head = "POST /hold HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n";
    let mut client = door
        .connect_and_send(&format!("{head}{}", "x".repeat(200_000)))
        .await;
    eventually(|| count(&door.seen.requests) == 1).await;
    // Several looks at a connection with unread bytes, and none finds that it ended.
    let began = Instant::now();
    eventually(|| began.elapsed() > Duration::from_millis(250)).await;
    door.seen.release.notify_one();
    assert_eq!(client.response().await.1, "held");
}
