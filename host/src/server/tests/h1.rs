//! HTTP/1 as a client sees it: framing, limits, timeouts, and the end of a connection.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{LONG, SHORT, TestDoor, config, count, eventually};
use crate::server::{Config, HeadFault};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let door = TestDoor::open(config());
    let mut client = door.connect().await;
    for _ in 0..3 {
        client.send(HELLO.as_bytes()).await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.contains("content-length: 5\r\n"), "{head}");
        assert_eq!(body, "hello");
    }
    assert_eq!(count(&door.counters.accepted), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let door = TestDoor::open(config());
    let mut sent = String::new();
    for number in 0..40 {
        sent += &format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n{number:03}");
    }
    let mut client = door.connect_and_send(&sent).await;
    for number in 0..40 {
        assert_eq!(client.response().await.1, format!("{number:03}"));
    }
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_request_behind_it() {
    let door = TestDoor::open(config());
    let mut client = door
        .connect_and_send(&format!(
            "{HELLO}GET /hold HTTP/1.1\r\nHost: a\r\n\r\n{HELLO}"
        ))
        .await;
    assert_eq!(client.response().await.1, "hello");
    door.seen.release.notify_one();
    assert_eq!(client.response().await.1, "held");
    assert_eq!(client.response().await.1, "hello");
}

#[tokio::test]
async fn a_head_may_arrive_a_byte_at_a_time() {
    let door = TestDoor::open(config());
    let mut client = door.connect().await;
    // P and PRI are also how HTTP/2 starts.
    for request in ["POST /echo HTTP/1.1", "PRI /hello HTTP/1.1"] {
        for byte in format!("{request}\r\nHost: a\r\nContent-Length: 0\r\n\r\n").bytes() {
            client.send(&[byte]).await;
        }
        assert!(client.response().await.0.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn the_first_head_may_begin_like_http2() {
    let door = TestDoor::open(config());
    let mut client = door.connect().await;
    for byte in b"PRI /hello HTTP/1.1\r\nHost: a\r\n\r\n" {
        client.send(&[*byte]).await;
    }
    assert_eq!(client.response().await.1, "hello");
}

#[tokio::test]
async fn a_client_is_told_to_continue_when_its_body_is_wanted() {
    let door = TestDoor::open(config());
    let mut client = door
        .connect_and_send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
        )
        .await;
    let interim = client.until(b"\r\n\r\n").await;
    assert_eq!(interim, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"body").await;
    assert_eq!(client.response().await.1, "body");
}

#[tokio::test]
async fn http_1_0_closes_unless_asked_to_keep_alive() {
    let door = TestDoor::open(config());
    let mut client = door.connect_and_send("GET /hello HTTP/1.0\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");

    let kept = "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    let mut client = door.connect_and_send(kept).await;
    client.response().await;
    client.send(kept.as_bytes()).await;
    assert_eq!(client.response().await.1, "hello");
}

async fn refusal(config: Config, sent: &str) -> (String, Vec<HeadFault>) {
    let door = TestDoor::open(config);
    let mut client = door.connect_and_send(sent).await;
    let answer = client.rest().await;
    drop(client);
    eventually(|| count(&door.counters.open) == 0).await;
    let refused = door.seen.refused.lock().unwrap().clone();
    assert_eq!(count(&door.seen.requests), 0);
    (answer, refused)
}

#[tokio::test]
async fn a_head_of_too_many_bytes_is_431() {
    for filler in [65_536, 300_000] {
        let sent = format!(
            "GET /hello HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(filler)
        );
        let (answer, refused) = refusal(config(), &sent).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(refused, [HeadFault::TooLarge]);
    }
}

#[tokio::test]
async fn a_head_of_just_few_enough_bytes_is_served() {
    let door = TestDoor::open(config());
    let head = "GET /hello HTTP/1.1\r\nHost: a\r\nX: ";
    let filler = 65_536 - head.len() - 4;
    let sent = format!("{head}{}\r\n\r\n", "x".repeat(filler));
    assert_eq!(sent.len(), 65_536);
    assert_eq!(
        door.connect_and_send(&sent).await.response().await.1,
        "hello"
    );
    let (answer, _) = refusal(
        config(),
        &format!("{head}{}\r\n\r\n", "x".repeat(filler + 1)),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn too_many_headers_are_431() {
    for (max_headers, headers, is_served) in [
        (100, 99, true),
        (100, 100, false),
        (10, 9, true),
        (10, 10, false),
        (150, 149, true),
    ] {
        let config = Config {
            max_headers,
            ..config()
        };
        let sent = format!(
            "GET /hello HTTP/1.1\r\nHost: a\r\n{}\r\n",
            "X: y\r\n".repeat(headers)
        );
        if is_served {
            let door = TestDoor::open(config);
            assert_eq!(
                door.connect_and_send(&sent).await.response().await.1,
                "hello"
            );
        } else {
            let (answer, refused) = refusal(config, &sent).await;
            assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
            assert_eq!(refused, [HeadFault::TooLarge]);
        }
    }
}

#[tokio::test]
async fn what_is_no_http_is_400() {
    for sent in [
        "nonsense\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}hello\r\n\r\n",
    ] {
        let (answer, refused) = refusal(config(), sent).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(
            matches!(refused[..], [HeadFault::Malformed(_)]),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn a_silent_client_is_closed() {
    let door = TestDoor::open(Config {
        first_byte_timeout: SHORT,
        ..config()
    });
    assert_eq!(door.connect().await.rest().await, "");
    eventually(|| count(&door.counters.silent) == 1).await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_408() {
    // Before the protocol is known, after it is, and after a request.
    for (before, sent) in [
        ("", "P"),
        ("", "GET /hel"),
        (HELLO, "GET /hello HTTP/1.1\r\nHos"),
    ] {
        let door = TestDoor::open(Config {
            header_read_timeout: SHORT,
            ..config()
        });
        let mut client = door.connect_and_send(before).await;
        if !before.is_empty() {
            client.response().await;
        }
        client.send(sent.as_bytes()).await;
        let began = Instant::now();
        let answer = client.rest().await;
        assert!(began.elapsed() >= SHORT - Duration::from_millis(20));
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert_eq!(count(&door.counters.slow_heads), 1);
        assert_eq!(*door.seen.refused.lock().unwrap(), [HeadFault::TooSlow]);
    }
}

#[tokio::test]
async fn bytes_that_trickle_do_not_extend_the_time_of_a_head() {
    let door = TestDoor::open(Config {
        header_read_timeout: SHORT,
        ..config()
    });
    let mut client = door.connect_and_send("GET /hello HTTP/1.1\r\nX: ").await;
    let mut trickle = tokio::time::interval(Duration::from_millis(10));
    let began = Instant::now();
    let mut byte = [0];
    loop {
        tokio::select! {
            _ = trickle.tick() => client.send(b"x").await,
            read = client.0.read(&mut byte) => break assert_eq!(read.unwrap(), 1),
        }
        assert!(began.elapsed() < LONG);
    }
    assert_eq!(count(&door.counters.slow_heads), 1);
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_own_time() {
    let door = TestDoor::open(Config {
        idle_timeout: 2 * SHORT,
        header_read_timeout: SHORT,
        ..config()
    });
    let mut client = door.connect_and_send(HELLO).await;
    client.response().await;
    let began = Instant::now();
    assert_eq!(client.rest().await, "");
    assert!(began.elapsed() > 2 * SHORT - Duration::from_millis(20));
    eventually(|| count(&door.counters.idle) == 1).await;
}

#[tokio::test]
async fn requests_keep_an_idle_connection_open() {
    let door = TestDoor::open(Config {
        idle_timeout: SHORT,
        header_read_timeout: SHORT,
        ..config()
    });
    let mut client = door.connect().await;
    let began = Instant::now();
    while began.elapsed() < 3 * SHORT {
        client.send(HELLO.as_bytes()).await;
        client.response().await;
        tokio::time::sleep(SHORT / 5).await;
    }
}

#[tokio::test]
async fn a_request_may_take_longer_than_any_timeout() {
    let door = TestDoor::open(Config {
        idle_timeout: SHORT,
        header_read_timeout: SHORT,
        write_stall_timeout: SHORT,
        first_byte_timeout: SHORT,
        ..config()
    });
    let mut client = door
        .connect_and_send("GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let began = Instant::now();
    eventually(|| began.elapsed() > 3 * SHORT).await;
    door.seen.release.notify_one();
    assert_eq!(client.response().await.1, "held");
}

#[tokio::test]
async fn a_client_that_takes_no_bytes_loses_its_connection() {
    let door = TestDoor::open(Config {
        write_stall_timeout: SHORT,
        ..config()
    });
    let client = door
        .connect_and_send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    eventually(|| count(&door.counters.stalled) == 1).await;
    assert_eq!(count(&door.seen.dropped), 1);
    assert_eq!(count(&door.seen.stalled), 1);
    // What the kernel holds for one connection, not what the handler could give in that time.
    let bytes = count(&door.seen.frames) * 8 * 1024;
    assert!(bytes < 32 * 1024 * 1024, "{bytes} bytes were taken");
    drop(client);
}

#[tokio::test]
async fn pipelining_does_not_lift_the_limit_on_what_is_buffered() {
    let door = TestDoor::open(Config {
        write_stall_timeout: SHORT,
        ..config()
    });
    let get = "GET /endless HTTP/1.1\r\nHost: a\r\n\r\n";
    let client = door.connect_and_send(&get.repeat(2)).await;
    eventually(|| count(&door.counters.stalled) == 1).await;
    assert!(count(&door.seen.frames) * 8 * 1024 < 32 * 1024 * 1024);
    drop(client);
}

#[tokio::test]
async fn a_slow_reader_keeps_its_connection() {
    let door = TestDoor::open(Config {
        write_stall_timeout: 2 * SHORT,
        ..config()
    });
    let mut client = door
        .connect_and_send("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let mut piece = vec![0; 4 * 1024 * 1024];
    let began = Instant::now();
    while began.elapsed() < 6 * SHORT {
        client.0.read_exact(&mut piece).await.unwrap();
        tokio::time::sleep(SHORT / 3).await;
    }
    assert_eq!(count(&door.counters.stalled), 0);
}

#[tokio::test]
async fn behind_a_small_unread_body_the_next_request_is_served_or_the_connection_ends() {
    for body in [
        "Content-Length: 5\r\n\r\nGET /",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nGET /\r\n0\r\n\r\n",
    ] {
        let door = TestDoor::open(config());
        let mut client = door
            .connect_and_send(&format!(
                "POST /unread HTTP/1.1\r\nHost: a\r\n{body}GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
            ))
            .await;
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(body, "no");
        let next = client.rest().await;
        assert!(next.is_empty() || next.ends_with("\r\n\r\nhello"), "{next}");
        assert!(!next.contains(" 400 "), "{next}");
    }
}

#[tokio::test]
async fn an_answer_given_before_the_body_was_sent_reaches_the_client() {
    // In one piece, and in chunks of which some are unread in hyper's buffer.
    let chunk = format!("1000\r\n{}\r\n", "x".repeat(4096));
    for (framing, piece) in [
        ("Content-Length: 10000000", "x".repeat(4096)),
        ("Transfer-Encoding: chunked", chunk),
    ] {
        let door = TestDoor::open(config());
        let mut client = door
            .connect_and_send(&format!(
                "POST /unread HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{piece}{piece}"
            ))
            .await;
        eventually(|| count(&door.seen.requests) == 1).await;
        // It goes on sending, as a client does that writes first and reads then.
        for _ in 0..100 {
            client.send(piece.as_bytes()).await;
        }
        let (head, body) = client.response().await;
        assert!(head.starts_with("HTTP/1.1 413 "), "{head}");
        assert_eq!(body, "no");
        assert_eq!(client.rest().await, "");
    }
}

#[tokio::test]
async fn the_last_response_reaches_a_client_that_sent_more() {
    let door = TestDoor::open(config());
    let last = "GET /hello HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut client = door
        .connect_and_send(&format!("{last}{}", HELLO.repeat(1000)))
        .await;
    let (head, body) = client.response().await;
    assert!(head.contains("connection: close"), "{head}");
    assert_eq!(body, "hello");
    assert_eq!(client.rest().await, "");
    assert_eq!(count(&door.seen.requests), 1);
}

#[tokio::test]
async fn a_client_that_does_not_close_is_not_listened_to_for_ever() {
    let door = TestDoor::open(Config {
        linger_timeout: SHORT,
        ..config()
    });
    let client = door.connect_and_send("GET /hello HTTP/1.0\r\n\r\n").await;
    eventually(|| count(&door.counters.accepted) == 1 && count(&door.counters.open) == 0).await;
    drop(client);
}

#[tokio::test]
async fn a_client_that_sends_on_and_on_is_not_listened_to_for_ever() {
    let door = TestDoor::open(Config {
        linger_timeout: LONG,
        max_linger_bytes: 100_000,
        ..config()
    });
    let mut client = door.connect_and_send("GET /hello HTTP/1.0\r\n\r\n").await;
    let began = Instant::now();
    while client.0.write_all(&[b'x'; 10_000]).await.is_ok() {
        assert!(began.elapsed() < LONG);
    }
    eventually(|| count(&door.counters.open) == 0).await;
}

#[tokio::test]
async fn a_client_can_tell_that_a_body_was_cut() {
    let door = TestDoor::open(config());
    let mut client = door
        .connect_and_send("GET /cut HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert!(client.rest().await.ends_with("\r\n\r\n4\r\ndrop\r\n"));

    let mut client = door.connect_and_send("GET /cut HTTP/1.0\r\n\r\n").await;
    let mut read = Vec::new();
    let failure = client.0.read_to_end(&mut read).await.unwrap_err();
    assert_eq!(failure.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn an_unlengthed_body_is_chunked() {
    let door = TestDoor::open(config());
    let mut client = door
        .connect_and_send("GET /trickle HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    let head = client.until(b"\r\n\r\n").await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert_eq!(client.until(b"drop\r\n").await, "4\r\ndrop\r\n");
}
