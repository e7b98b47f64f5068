//! Failures.
use crate::support::*;

#[test]
fn explore() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--timeout 1s --cpu 100ms");
        for path in ["/ok", "/trap", "/panic", "/abort","/overflow","/grow","/grow-politely","/alloc","/table","/spin","/spin-after-headers","/spin-after-response","/never","/sleep","/after","/burn?ms=20","/drip","/no-response","/length-short","/length-long","/hop-by-hop","/big-head","/no-body-status/204","/no-body-status/304","/trap-mid-body","/drop-body","/leak-body","/bytes","/bytes-length","/trailers","/ignore-body","/read","/headers","/request","/say","/flood","/long-line","/control-characters","/env","/file","/write","/outbound","/socket","/dns","/error/connection-refused","/error/internal-error","/status/101","/status/999","/status/100","/status/103","/status/199","/status/99","/status/200", "/status/600", "/status/1000"] {
            let mut c = host.connect(); c.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
            let Some(h) = c.try_head() else { eprintln!("{guest} {path} NO ANSWER"); continue };
            let r = c.reply_after(h);
            if r.header("x-request-id").is_none() { eprintln!("{guest} {path} NO ID {r:?}"); continue }
            let a = host.access(&r);
            eprintln!("{guest} {path} {} complete={} body={:?} {:?} label={} sent={} cpu={}", r.status(), r.is_complete, r.text().chars().take(120).collect::<String>(), r.head.headers, a.label(), a.number("http.response.body.size"), a.number("host.guest.cpu_time"));
        }
        let e = host.stop();
        eprintln!("{:?}", e.code);
        for l in e.stderr.iter().filter(|l| !l.contains("flood") && !l.contains("line ")) { eprintln!("{}", l.chars().take(400).collect::<String>()); }
    }
}
