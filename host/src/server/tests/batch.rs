//! What a client sees of a thread that has much to do.

use tokio::io::AsyncWriteExt as _;

use super::support::*;
use crate::server::batch::{has_waited, hurry};

const HELLO: &str = "GET /hello HTTP/1.1\r\nhost: a\r\n\r\n";

// On the one thread of each test are its client and its door.

/// Times that a claim is tried, since on a slow machine nothing may wait.
const TRIES: usize = 100;

#[tokio::test]
async fn a_response_that_waits_for_its_turn_comes() {
    let door = TestDoor::open(config());
    for request in [
        HELLO,
        "POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    ] {
        let mut waited = 0;
        for _ in 0..TRIES {
            let mut client = door.connect_and_send(request).await;
            hurry();
            assert_eq!(client.response().await.1, "hello");
            waited += usize::from(has_waited());
            // The connection goes on.
            client.send(HELLO.as_bytes()).await;
            assert_eq!(client.response().await.1, "hello");
        }
        assert!(waited > 0, "{request}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_each_in_its_turn() {
    let door = TestDoor::open(config());
    let mut client = door.connect_and_send(&HELLO.repeat(20)).await;
    for _ in 0..20 {
        hurry();
        assert_eq!(client.response().await.1, "hello");
    }
    client.send(HELLO.as_bytes()).await;
    assert_eq!(client.response().await.1, "hello");
}

#[tokio::test]
async fn a_response_that_is_ready_when_its_client_sends_no_more_arrives() {
    let door = TestDoor::open(config());
    let mut waited = 0;
    for _ in 0..TRIES {
        let mut client = door.connect_and_send(HELLO).await;
        client.0.shutdown().await.unwrap();
        hurry();
        assert_eq!(client.response().await.1, "hello");
        assert_eq!(client.rest().await, "");
        waited += usize::from(has_waited());
    }
    assert!(waited > 0);
}

#[tokio::test]
async fn bodies_stream_both_ways_while_a_thread_has_much_to_do() {
    let door = TestDoor::open(config());
    let mut client = door
        .connect_and_send(
            "POST /converse HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
        )
        .await;
    for piece in ["one", "two", "six"] {
        hurry();
        client.send(format!("3\r\n{piece}\r\n").as_bytes()).await;
        client.until(format!("{piece}\r\n").as_bytes()).await;
    }
    client.send(b"0\r\n\r\n").await;
    client.until(b"0\r\n\r\n").await;
}

#[tokio::test]
async fn what_is_not_read_of_a_request_costs_it_no_answer() {
    let door = TestDoor::open(config());
    for offer in ["", "upgrade: h2c\r\nconnection: upgrade\r\n"] {
        let head = format!("POST /unread HTTP/1.1\r\nhost: a\r\n{offer}content-length: 5\r\n\r\n");
        let mut client = door.connect_and_send(&head).await;
        hurry();
        assert_eq!(client.response().await.1, "no");
        let mut client = door.connect_and_send(&(head + "hello")).await;
        hurry();
        assert_eq!(client.response().await.1, "no");
    }
}
