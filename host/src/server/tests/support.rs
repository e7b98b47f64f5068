//! A door to test, and a client that speaks in bytes.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::client::Client;
use crate::client::Stall;
use crate::networks::Networks;
use crate::server::{
    Config, Counters, Handler, HeadFault, ListenerConfig, Place, Upload, open, serve,
};
use crate::shutdown::{Trigger, channel};

/// Longer than any timeout under test, so that each test sees the one it shortens.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// Short, and long enough that a loaded machine does not trip over it.
pub(super) const SHORT: Duration = Duration::from_millis(150);

pub(super) fn config() -> Config {
    Config {
        max_connections: 100,
        max_connections_per_address: None,
        trusted_proxies: Networks::default(),
        first_byte_timeout: LONG,
        handshake_timeout: LONG,
        header_read_timeout: LONG,
        min_body_rate: 240,
        body_grace: LONG,
        idle_timeout: LONG,
        write_stall_timeout: LONG,
        max_head_bytes: 64 * 1024,
        max_headers: 100,
        linger_timeout: Duration::from_secs(2),
        max_linger_bytes: 1024 * 1024,
        max_h2_streams: 100,
        h2_window_bytes: 1024 * 1024,
        h2_connection_window_bytes: 4 * 1024 * 1024,
        max_h2_send_bytes: 64 * 1024,
        max_h2_pending_resets: 20,
        max_h2_provoked_resets: 1_000,
        h2_control_frames: 1_000,
        h2_control_frames_per_second: 100,
        h2_ping_interval: LONG,
        h2_ping_timeout: LONG,
    }
}

/// A door that serves `Paths`.
pub(super) struct TestDoor {
    pub(super) addr: SocketAddr,
    pub(super) counters: Arc<Counters>,
    pub(super) seen: Arc<Seen>,
    pub(super) asker: Trigger,
    pub(super) task: JoinHandle<()>,
}

impl TestDoor {
    pub(super) fn open(config: Config) -> TestDoor {
        let place = Place::Address(SocketAddr::from(([127, 0, 0, 1], 0)));
        let listeners = open(&[ListenerConfig::at(place)]).unwrap();
        let addr = listeners[0].address().unwrap();
        let (asker, shutdown) = channel();
        let counters = Arc::new(Counters::default());
        let seen = Arc::new(Seen::default());
        let handler = Paths(Arc::clone(&seen));
        let task = tokio::spawn(serve(
            listeners,
            config,
            Arc::clone(&counters),
            handler,
            shutdown,
        ));
        TestDoor {
            addr,
            counters,
            seen,
            asker,
            task,
        }
    }

    pub(super) async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.addr).await.unwrap())
    }

    pub(super) async fn connect_and_send(&self, bytes: &str) -> Raw {
        let mut raw = self.connect().await;
        raw.send(bytes.as_bytes()).await;
        raw
    }
}

/// What the handler saw.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) requests: AtomicU64,
    /// Requests to `/wait` that were dropped unanswered, and bodies of `/endless` that were dropped
    pub(super) dropped: AtomicU64,
    /// Those of them that knew by then that their client took no bytes
    pub(super) stalled: AtomicU64,
    /// Frames taken from `/endless`
    pub(super) frames: AtomicU64,
    /// Lets `/hold` answer
    pub(super) release: Notify,
    pub(super) refused: Mutex<Vec<HeadFault>>,
}

/// Answers by path; each path is one behaviour.
struct Paths(Arc<Seen>);

type TestBody = UnsyncBoxBody<Bytes, io::Error>;

impl Handler for Paths {
    type Body = TestBody;

    async fn handle(&self, request: Request<Upload>, client: Client) -> Response<TestBody> {
        let seen = &self.0;
        seen.requests.fetch_add(1, Ordering::SeqCst);
        assert_ne!(client.remote, client.local);
        match request.uri().path() {
            "/hello" => full("hello"),
            "/fields" => full(
                request
                    .headers()
                    .iter()
                    .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
                    .collect::<String>(),
            ),
            "/echo" => match request.into_body().collect().await {
                Ok(body) => full(body.to_bytes()),
                Err(_) => full("cut"),
            },
            // The body's frames as they come, behind a head that goes first.
            "/converse" => Response::new(request.into_body().boxed_unsync()),
            "/wait" => {
                let _dropped = CountDrop(Arc::clone(seen), client.stall.clone());
                // The body stays unread, and alive.
                let _request = request;
                pending().await
            }
            "/hold" => {
                seen.release.notified().await;
                full("held")
            }
            "/unread" => {
                let mut response = full("no");
                *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
                response
            }
            "/endless" => Response::new(
                Endless {
                    frame: Bytes::from(vec![b'x'; 8 * 1024]),
                    dropped: CountDrop(Arc::clone(seen), client.stall.clone()),
                }
                .boxed_unsync(),
            ),
            "/trickle" => Response::new(
                Trickle {
                    frames: 0,
                    is_cut: false,
                }
                .boxed_unsync(),
            ),
            "/cut" => Response::new(
                Trickle {
                    frames: 0,
                    is_cut: true,
                }
                .boxed_unsync(),
            ),
            "/large" => full(vec![b'y'; 1024 * 1024]),
            "/panic" => panic!("the handler of a test"),
            _ => panic!("no such path"),
        }
    }

    fn refuse(&self, fault: HeadFault, _: Client) -> Response<TestBody> {
        self.0.refused.lock().unwrap().push(fault);
        let mut response = full("refused");
        *response.status_mut() = match fault {
            HeadFault::Malformed(_) => StatusCode::BAD_REQUEST,
            HeadFault::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadFault::TargetTooLong => StatusCode::URI_TOO_LONG,
            HeadFault::TooSlow => StatusCode::REQUEST_TIMEOUT,
        };
        response
    }
}

fn full(body: impl Into<Bytes>) -> Response<TestBody> {
    Response::new(
        Full::new(body.into())
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

struct CountDrop(Arc<Seen>, Stall);

impl Drop for CountDrop {
    fn drop(&mut self) {
        if self.1.is_cut() {
            self.0.stalled.fetch_add(1, Ordering::SeqCst);
        }
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A body that is always ready.
struct Endless {
    frame: Bytes,
    dropped: CountDrop,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.dropped.0.frames.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(self.frame.clone()))))
    }
}

/// A body that gives one frame and then nothing, ever, or breaks when it was asked often enough for that frame to have
/// been sent.
struct Trickle {
    frames: u32,
    is_cut: bool,
}

impl Body for Trickle {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.frames += 1;
        if self.frames > 1 && self.is_cut {
            if self.frames > 10 {
                return Poll::Ready(Some(Err(io::Error::other("cut"))));
            }
            cx.waker().wake_by_ref();
        }
        if self.frames > 1 {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"drop")))))
    }
}

/// A client's socket.
pub(super) struct Raw(pub(super) TcpStream);

impl Raw {
    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads one response with a content-length: its head and its body.
    pub(super) async fn response(&mut self) -> (String, String) {
        let head = self.until(b"\r\n\r\n").await;
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; length];
        timeout(LONG, self.0.read_exact(&mut body))
            .await
            .unwrap()
            .unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    pub(super) async fn until(&mut self, end: &[u8]) -> String {
        let mut read = Vec::new();
        while !read.ends_with(end) {
            read.push(timeout(LONG, self.0.read_u8()).await.unwrap().unwrap());
        }
        String::from_utf8(read).unwrap()
    }

    /// Everything until the door closes.
    pub(super) async fn rest(&mut self) -> String {
        let mut read = Vec::new();
        timeout(LONG, self.0.read_to_end(&mut read))
            .await
            .unwrap()
            .unwrap();
        String::from_utf8(read).unwrap()
    }
}

/// Waits until `claim` holds.
pub(super) async fn eventually(claim: impl Fn() -> bool) {
    timeout(LONG, async {
        while !claim() {
            sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .expect("it never came true");
}

pub(super) fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}
