//! HTTP/2 with prior knowledge or over TLS, for one request at a time or several.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response, StatusCode};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::{PATIENCE, TlsClient};

/// A connection. Its runtime is its own, so that tests stay plain functions.
pub(crate) struct H2 {
    runtime: Runtime,
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// A response, whole or not.
#[derive(Debug)]
pub(crate) struct H2Reply {
    pub(crate) head: http::response::Parts,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
    /// The code of RST_STREAM, if the stream did not end well.
    pub(crate) reset: Option<h2::Reason>,
}

impl H2 {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::over(async move { TcpStream::connect(address).await.expect("connected") })
    }

    /// Over TLS, to who should be `name`.
    pub(crate) fn to_tls(address: SocketAddr, client: &TlsClient, name: &str) -> Self {
        let client = TlsConnector::from(client.config());
        let name = ServerName::try_from(name.to_owned()).expect("a name");
        Self::over(async move {
            let stream = TcpStream::connect(address).await.expect("connected");
            client.connect(name, stream).await.expect("a handshake")
        })
    }

    fn over<S>(connected: impl Future<Output = S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (requests, connection) = runtime.block_on(async {
            let (requests, connection) = h2::client::handshake(connected.await)
                .await
                .expect("an HTTP/2 connection");
            (requests, tokio::spawn(connection))
        });
        Self {
            runtime,
            requests,
            connection,
        }
    }

    pub(crate) fn get(&mut self, path: &str) -> H2Reply {
        let request = Request::get(format!("http://a{path}"));
        self.exchange(request.body(()).expect("a request"), b"", None)
    }

    /// Sends a request whole and reads the response whole.
    pub(crate) fn exchange(
        &mut self,
        request: Request<()>,
        body: &'static [u8],
        trailers: Option<HeaderMap>,
    ) -> H2Reply {
        let is_whole = body.is_empty() && trailers.is_none();
        let (response, mut stream) = self.send(request, is_whole);
        if !body.is_empty() {
            let body = Bytes::from_static(body);
            stream.send_data(body, trailers.is_none()).expect("sent");
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers).expect("sent");
        }
        self.reply(response)
    }

    pub(crate) fn send(
        &mut self,
        request: Request<()>,
        is_whole: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        // Entered: sending spawns nothing, but may look at the clock.
        let _entered = self.runtime.enter();
        self.requests.send_request(request, is_whole).expect("sent")
    }

    pub(crate) fn reply(&self, response: ResponseFuture) -> H2Reply {
        self.within_patience(async {
            let (head, body) = response.await.expect("a response").into_parts();
            read(head, body).await
        })
    }

    /// The response, unless the stream ends before its head.
    pub(crate) fn try_reply(&self, response: ResponseFuture) -> Option<H2Reply> {
        self.within_patience(async {
            let (head, body) = response.await.ok()?.into_parts();
            Some(read(head, body).await)
        })
    }

    /// The head alone, and the body to be read or dropped.
    pub(crate) fn head(&self, response: ResponseFuture) -> Response<RecvStream> {
        self.within_patience(async { response.await.expect("a response") })
    }

    /// What comes next of a body that goes on.
    pub(crate) fn data(&self, body: &mut RecvStream) -> Bytes {
        self.within_patience(async { body.data().await.expect("data").expect("no reset") })
    }

    /// What is left of a response.
    pub(crate) fn rest(&self, head: http::response::Parts, body: RecvStream) -> H2Reply {
        self.within_patience(read(head, body))
    }

    /// What ended the connection: nothing if the host closed it in good order.
    pub(crate) fn ended(self) -> Result<(), h2::Error> {
        let Self {
            runtime,
            requests,
            connection,
        } = self;
        let ended = runtime.block_on(async {
            tokio::time::timeout(PATIENCE, connection)
                .await
                .expect("the connection's end")
        });
        drop(requests);
        ended.expect("its task")
    }

    fn within_patience<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, future)
                .await
                .expect("in time")
        })
    }
}

async fn read(head: http::response::Parts, mut stream: RecvStream) -> H2Reply {
    let mut reply = H2Reply {
        head,
        body: Vec::new(),
        trailers: None,
        reset: None,
    };
    while let Some(data) = stream.data().await {
        match data {
            Ok(data) => {
                reply.body.extend(&data);
                let _ = stream.flow_control().release_capacity(data.len());
            }
            Err(error) => {
                reply.reset = Some(error.reason().expect("a reset"));
                return reply;
            }
        }
    }
    match stream.trailers().await {
        Ok(trailers) => reply.trailers = trailers,
        Err(error) => reply.reset = Some(error.reason().expect("a reset")),
    }
    reply
}

impl H2Reply {
    pub(crate) fn status(&self) -> StatusCode {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .headers
            .get(name)
            .and_then(|value| value.to_str().ok())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
