//! What guests print.

use crate::support::operator::{Office, Operator};
use crate::support::*;

#[test]
fn each_line_comes_with_handler_request_id_and_stream() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let id = host
            .get("/say")
            .header("x-request-id")
            .expect("an id")
            .to_owned();
        for stream in ["stdout", "stderr"] {
            let line = host.says(&format!("to {stream}"));
            for part in [
                format!("handler=\"{}\"", guest.handler()),
                format!("request_id=\"{id}\""),
                format!("stream={stream}"),
            ] {
                assert!(line.contains(&part), "{guest}: no {part} in {line}");
            }
        }
        assert!(
            host.stdout().iter().all(|line| !line.contains("to stdout")),
            "{guest}"
        );
    }
}

#[test]
fn a_flood_is_dropped_and_the_drop_is_counted() {
    for guest in BOTH_FAULTS {
        let office = Office::new();
        let host = TestHost::serve(guest, &format!("--cpu 20s {}", office.flags()));
        assert_eq!(host.get("/flood").text(), "flooded\n", "{guest}");
        let counted = host.says("the rest was dropped");
        assert!(counted.contains("dropped=99000"), "{guest}: {counted}");
        assert!(
            counted.contains(&format!("handler=\"{}\"", guest.handler())),
            "{guest}: {counted}"
        );
        let lines = host
            .stderr()
            .iter()
            .filter(|line| line.contains("guest: line "))
            .count();
        assert_eq!(lines, 1000, "{guest}");
        let metrics = Operator::of(&host).metrics();
        let lost = metrics.sum("host_log_lines_lost_total", &[("host_kind", "guest")]);
        assert_eq!(lost, 99_000.0, "{guest}");
        assert_eq!(host.get("/ok").text(), "ok\n", "{guest}");
    }
}

#[test]
fn a_long_line_is_cut() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        assert_eq!(host.get("/long-line").text(), "long\n", "{guest}");
        let line = host.says("xxxx");
        assert!(line.contains('…'), "{guest}");
        assert!(line.len() < 5 * 1024, "{guest}: {}", line.len());
        assert!(line.matches('x').count() >= 4096, "{guest}");
    }
}

#[test]
fn control_characters_reach_no_terminal_and_forge_no_line() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        assert_eq!(
            host.get("/control-characters").text(),
            "printed\n",
            "{guest}"
        );
        host.says("\"level\"");
        let said = host.stderr();
        for line in &said {
            assert!(!line.chars().any(char::is_control), "{guest}: {line:?}");
        }
        for forged in said.iter().filter(|line| line.contains("forged")) {
            assert!(forged.contains("guest: "), "{guest}: {forged}");
            assert!(forged.contains("stream=stdout"), "{guest}: {forged}");
        }
    }
}

#[test]
fn a_panic_message_is_in_the_log() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        assert_eq!(host.get("/panic").status(), 500, "{guest}");
        let line = host.says("boom");
        assert!(line.contains("stream=stderr"), "{guest}: {line}");
    }
}
