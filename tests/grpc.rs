//! gRPC through a guest: messages in both directions on one stream of HTTP/2, for as long as the two like, and the status in
//! trailers. The client speaks it by hand: five bytes before each message, and headers that say what it is.

use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use h2::RecvStream;
use http::Request;

use crate::support::*;

fn call(path: &str) -> Request<()> {
    Request::post(format!("http://a{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", "1H")
        .body(())
        .expect("a request")
}

/// A message that is not compressed, and its length before it.
fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).expect("a length");
    [&[0], &length.to_be_bytes()[..], text.as_bytes()]
        .concat()
        .into()
}

/// What came of a body and is no whole message yet.
#[derive(Default)]
struct Messages(BytesMut);

impl Messages {
    fn next(&mut self, client: &H2, body: &mut RecvStream) -> String {
        loop {
            if let [_, a, b, c, d, rest @ ..] = &self.0[..] {
                let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                if rest.len() >= length {
                    self.0.advance(5);
                    let message = self.0.split_to(length);
                    return String::from_utf8_lossy(&message).into_owned();
                }
            }
            let data = client.data(body);
            let _ = body.flow_control().release_capacity(data.len());
            self.0.extend_from_slice(&data);
        }
    }
}

const TALK: &str = "/faults.Echo/Talk";

#[test]
fn a_unary_call_gets_its_message_and_its_status_in_trailers() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut client = host.h2();
        let (response, mut sending) = client.send(call(TALK), false);
        sending.send_data(message("hello"), true).expect("sent");
        let reply = client.reply(response);
        assert_eq!(
            reply.header("content-type"),
            Some("application/grpc"),
            "{guest}"
        );
        assert_eq!(reply.body, message("hello"), "{guest}");
        let trailers = reply.trailers.expect("trailers");
        assert_eq!(trailers["grpc-status"], "0", "{guest}");
    }
}

#[test]
fn over_tls_the_two_talk_too() {
    let here = directory();
    let authority = Authority::new("a test");
    let (cert, key) = authority.sign(&["localhost"]).write(here.path(), "cert");
    let flags = format!("{} {}", flag("--tls-cert", &cert), flag("--tls-key", &key));
    let tls = TlsClient::trusting(&authority).speaking(&["h2"]);
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, &flags);
        let mut client = H2::to_tls(host.address, &tls, "localhost");
        let (response, mut sending) = client.send(call(TALK), false);
        let (head, mut body) = client.head(response).into_parts();
        let mut messages = Messages::default();
        for said in ["one", "two"] {
            sending.send_data(message(said), false).expect("sent");
            assert_eq!(messages.next(&client, &mut body), said, "{guest}");
        }
        sending.send_data(Bytes::new(), true).expect("sent");
        let trailers = client.rest(head, body).trailers.expect("trailers");
        assert_eq!(trailers["grpc-status"], "0", "{guest}");
    }
}

#[test]
fn two_that_talk_for_longer_than_any_timeout_are_not_cut_off() {
    for guest in BOTH_FAULTS {
        let flags = "--timeout 500ms --body-timeout 2s --header-timeout 300ms --idle-timeout 300ms --write-timeout 2s";
        let host = TestHost::serve(guest, flags);
        let mut client = host.h2();
        let (response, mut sending) = client.send(call(TALK), false);
        let (head, mut body) = client.head(response).into_parts();
        let mut messages = Messages::default();
        let began = Instant::now();
        // Now and then a word, which at no rate is one.
        for nth in 0.. {
            let said = format!("message {nth}");
            sending.send_data(message(&said), false).expect("sent");
            assert_eq!(messages.next(&client, &mut body), said, "{guest}");
            if began.elapsed() > Duration::from_secs(3) {
                break;
            }
            assert!(
                host.connect().is_silent_for(Duration::from_millis(200)),
                "a pause"
            );
        }
        sending.send_data(Bytes::new(), true).expect("sent");
        let rest = client.rest(head, body);
        assert_eq!(rest.reset, None, "{guest}");
        assert_eq!(
            rest.trailers.expect("trailers")["grpc-status"],
            "0",
            "{guest}"
        );
    }
}

#[test]
fn many_messages_flow_on_many_streams_of_one_connection() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut client = host.h2();
        let mut calls: Vec<_> = (0..20)
            .map(|_| {
                let (response, sending) = client.send(call(TALK), false);
                (response, sending)
            })
            .collect();
        let mut talks = Vec::new();
        for (response, sending) in calls.drain(..) {
            let (head, body) = client.head(response).into_parts();
            talks.push((head, body, sending, Messages::default()));
        }
        for nth in 0..100 {
            for (talk, (_, body, sending, messages)) in talks.iter_mut().enumerate() {
                let said = format!("message {nth} of {talk}");
                sending.send_data(message(&said), false).expect("sent");
                assert_eq!(messages.next(&client, body), said, "{guest}");
            }
        }
        for (head, body, mut sending, _) in talks {
            sending.send_data(Bytes::new(), true).expect("sent");
            let rest = client.rest(head, body);
            assert_eq!(
                rest.trailers.expect("trailers")["grpc-status"],
                "0",
                "{guest}"
            );
        }
    }
}

#[test]
fn a_client_that_cancels_its_call_ends_it_and_no_other() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let mut client = host.h2();
        let (response, mut sending) = client.send(call(TALK), false);
        let (_, mut body) = client.head(response).into_parts();
        sending.send_data(message("hello"), false).expect("sent");
        assert_eq!(
            Messages::default().next(&client, &mut body),
            "hello",
            "{guest}"
        );
        sending.send_reset(h2::Reason::CANCEL);
        let line = host.access_to(TALK);
        assert_eq!(line.label(), "client-left,after-headers", "{guest}");
        assert_eq!(client.get("/ok").text(), "ok\n", "{guest}");
    }
}
