//! What guests log by `wasi:logging`: level, context and request id, within the same bounds as what they print.

use crate::support::*;

#[test]
fn a_record_has_its_level_its_context_and_the_id_of_its_request() {
    let host = TestHost::serve(GREEDY, "");
    let reply = host.get("/log?context=cart&message=nearly-empty");
    assert_eq!(reply.text(), "logged\n");
    let id = reply.header("x-request-id").expect("an id");
    let line = host.says("nearly-empty");
    for part in [
        " WARN guest: nearly-empty",
        "handler=\"greedy\"",
        &format!("request_id=\"{id}\""),
        "context=\"cart\"",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    // What there is nothing to say of is left out.
    host.get("/log?message=without");
    let line = host.says("without");
    assert!(!line.contains("context"), "{line}");
}

#[test]
fn as_json_a_record_is_an_object_with_its_severity() {
    let host = TestHost::serve(GREEDY, "--log-format json --verbose");
    let id = host.get("/log-levels");
    let id = id.header("x-request-id").expect("an id");
    host.says("of the level critical");
    let records: Vec<serde_json::Value> = host
        .stderr()
        .iter()
        .filter(|line| line.contains("of the level"))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let severities: Vec<_> = records
        .iter()
        .map(|record| record["severity_text"].as_str().expect("a text"))
        .collect();
    assert_eq!(
        severities,
        ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
    );
    for record in &records {
        assert_eq!(record["scope"], "guest");
        assert_eq!(record["host.log.context"], "levels");
        assert_eq!(record["host.handler"], "greedy");
        assert_eq!(record["host.request.id"], *id);
        assert!(record.get("critical").is_none(), "{record}");
    }
}

#[test]
fn records_are_shown_as_the_hosts_log_is() {
    for (flags, shown) in [
        ("", &["info", "warn", "error", "critical"][..]),
        ("--quiet", &["error", "critical"]),
        (
            "--verbose",
            &["trace", "debug", "info", "warn", "error", "critical"],
        ),
    ] {
        let host = TestHost::serve(GREEDY, flags);
        host.get("/log-levels");
        host.says("of the level critical");
        let said = host.stderr();
        let levels: Vec<&str> = said
            .iter()
            .filter_map(|line| line.split_once("of the level "))
            .map(|(_, level)| level.split(' ').next().unwrap_or_default())
            .collect();
        assert_eq!(levels, shown, "{flags}");
    }
}

#[test]
fn a_record_is_one_line_and_moves_no_cursor() {
    for form in ["text", "json"] {
        let host = TestHost::serve(GREEDY, &format!("--log-format {form}"));
        host.get("/log-control");
        let line = host.says("forged");
        assert!(line.contains("before"), "{form}: {line}");
        for line in host.stderr() {
            assert!(!line.chars().any(char::is_control), "{form}: {line:?}");
        }
    }
}

#[test]
fn a_flood_of_records_is_dropped_and_counted_and_what_nobody_sees_is_not() {
    let host = TestHost::serve(GREEDY, "--cpu 20s");
    assert_eq!(host.get("/log-flood?n=5000").text(), "logged\n");
    let counted = host.says("the rest was dropped");
    assert!(counted.contains("dropped=4000"), "{counted}");
    let said = host.stderr();
    let shown = said.iter().filter(|line| line.contains("guest: record "));
    assert_eq!(shown.count(), 1_000);
    assert!(!said.iter().any(|line| line.contains("not shown")));
}

#[test]
fn records_of_a_megabyte_are_cut_and_take_no_more_than_one_together() {
    let host = TestHost::serve(GREEDY, "--cpu 20s");
    assert_eq!(host.get("/log-bytes?n=500").text(), "logged\n");
    host.says("the rest was dropped");
    let said = host.stderr();
    let records = said.iter().filter(|line| line.contains("\\u{7}"));
    let bytes: usize = records.map(String::len).sum();
    assert!((512 * 1024..2 * 1024 * 1024).contains(&bytes), "{bytes}");
    assert_eq!(host.get("/log?message=still").text(), "logged\n");
    host.says("still");
}
