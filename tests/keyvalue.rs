//! What guests remember: buckets of `wasi:keyvalue` in memory, in a file and in a Redis.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::*;

/// One GET; the answer without the newline.
fn ask(host: &TestHost, target: &str) -> String {
    let reply = host.get(target);
    assert_eq!(reply.status(), 200, "{target}: {}", reply.text());
    reply.text().trim_end().to_owned()
}

fn state(directory: &Path) -> String {
    flag("--state", directory)
}

#[test]
fn what_was_written_can_be_read_in_both_versions_and_in_each_store() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(BUCKETS, &place.flag("default"));
        for (v, other) in [(1, 2), (2, 1)] {
            let key = format!("a/ä {v}");
            let key = key.replace(' ', "%20");
            let ask = |what: &str| ask(&host, what);
            assert_eq!(ask(&format!("/get?v={v}&key={key}")), "ok none", "{store}");
            assert_eq!(ask(&format!("/exists?v={v}&key={key}")), "ok false");
            assert_eq!(ask(&format!("/set?v={v}&key={key}&value=1")), "ok");
            assert_eq!(ask(&format!("/get?v={other}&key={key}")), "ok `1`");
            assert_eq!(
                ask(&format!("/increment?v={v}&key={key}&delta=41")),
                "ok 42"
            );
            assert_eq!(ask(&format!("/exists?v={other}&key={key}")), "ok true");
            assert_eq!(ask(&format!("/delete?v={other}&key={key}")), "ok");
            assert_eq!(ask(&format!("/get?v={v}&key={key}")), "ok none");
            assert_eq!(ask(&format!("/set-many?v={v}&key=m&n=3&value=x")), "ok");
            assert_eq!(ask(&format!("/get-many?v={v}&key=m&n=5")), "ok 3 of 5");
            assert!(ask(&format!("/list?v={v}")).starts_with("ok 3 keys"));
            // Those that were named, and no others.
            assert_eq!(ask(&format!("/delete-many?v={v}&key=m&n=2")), "ok");
            assert_eq!(
                ask(&format!("/get-many?v={v}&key=m&n=5")),
                "ok 1 of 5",
                "{store}"
            );
            assert_eq!(ask(&format!("/delete-many?v={v}&key=m&n=5")), "ok");
            assert!(ask(&format!("/list?v={v}")).starts_with("ok 0 keys"));
        }
    }
}

#[test]
fn a_guest_of_0_3_has_buckets_as_one_of_0_2_does() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(PROBE_P3, &place.flag("default"));
        assert_eq!(ask(&host, "/bucket?value=a"), "`` `a` 1", "{store}");
        assert_eq!(ask(&host, "/bucket?value=b"), "`a` `b` 2", "{store}");
    }
    let host = TestHost::serve(PROBE_P3, "");
    let said = ask(&host, "/bucket?value=a");
    assert!(
        said.starts_with("refused: ") && said.contains("AccessDenied"),
        "{said}"
    );
    host.says("`probe_p3` may not use the bucket `default`");
}

#[test]
fn a_file_remembers_what_memory_forgets() {
    let here = directory();
    let flags = format!(
        "--keyvalue kept --keyvalue lost=memory {}",
        state(here.path())
    );
    let host = TestHost::serve(BUCKETS, &flags);
    for bucket in ["kept", "lost"] {
        assert_eq!(
            ask(&host, &format!("/set?bucket={bucket}&key=k&value=v")),
            "ok"
        );
    }
    host.stop();
    let host = TestHost::serve(BUCKETS, &flags);
    assert_eq!(ask(&host, "/get?bucket=kept&key=k"), "ok `v`");
    assert_eq!(ask(&host, "/get?bucket=lost&key=k"), "ok none");
    assert!(here.path().join("keyvalue/file.redb").is_file());
}

#[test]
fn a_bucket_that_was_not_granted_is_refused_and_the_log_says_what_would_grant_it() {
    let host = TestHost::serve(BUCKETS, "--keyvalue mine=memory");
    for v in [1, 2] {
        for bucket in ["other", "", "../mine", "mine%00", "Mine"] {
            let said = ask(&host, &format!("/get?v={v}&bucket={bucket}&key=k"));
            assert_eq!(said, "access-denied", "{bucket}");
        }
    }
    host.says("`buckets` may not use the bucket `other`: write a table `keyvalue.other` for it, or say `--keyvalue other`");
}

/// Writes keys of its own, `PREFIX0` and so on, until that fails. Gives how many were acknowledged.
fn write_until_it_fails(address: std::net::SocketAddr, bucket: &str, prefix: &str) -> usize {
    let mut acknowledged = 0;
    let mut connection = Connection::to(address);
    loop {
        let target = format!("/set?bucket={bucket}&key={prefix}{acknowledged}&value=v");
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        if connection.try_send(request).is_err() {
            return acknowledged;
        }
        let Some(head) = connection.try_head() else {
            return acknowledged;
        };
        let reply = connection.reply_after(head);
        if !reply.is_complete || reply.text() != "ok \n" {
            return acknowledged;
        }
        acknowledged += 1;
    }
}

#[test]
fn a_host_that_is_killed_under_load_has_lost_no_write_that_was_acknowledged() {
    let here = directory();
    let flags = format!("--keyvalue default {}", state(here.path()));
    for round in 0..3 {
        let host = TestHost::serve(BUCKETS, &flags);
        let address = host.address;
        let writers: Vec<_> = (0..8)
            .map(|writer| {
                let prefix = format!("r{round}-w{writer}-");
                std::thread::spawn(move || write_until_it_fails(address, "default", &prefix))
            })
            .collect();
        eventually("some writes", || {
            let last = format!("/exists?key=r{round}-w0-20");
            (ask(&host, &last) == "ok true").then_some(())
        });
        host.signal(Signal::KILL);
        let acknowledged: Vec<usize> = writers
            .into_iter()
            .map(|writer| writer.join().expect("a writer"))
            .collect();
        drop(host);
        let host = TestHost::serve(BUCKETS, &flags);
        for (writer, many) in acknowledged.into_iter().enumerate() {
            for from in (0..many).step_by(1_000) {
                let upto = (many - from).min(1_000);
                let target = format!("/get-many?key=r{round}-w{writer}-&from={from}&n={upto}");
                assert_eq!(ask(&host, &target), format!("ok {upto} of {upto}"));
            }
        }
        assert!(!host.stderr().iter().any(|line| line.contains("damaged")));
        host.stop();
    }
}

#[test]
fn what_may_be_on_disk_later_is_there_when_the_host_was_stopped_in_order() {
    let here = directory();
    let file = here.path().join("host.toml");
    let wasm = BUCKETS.path();
    let text = format!(
        "[state]\ndirectory = \"state\"\n[admin]\nsocket = \"admin.sock\"\n[handlers.buckets]\nsource = \"{}\"\nroutes = [\"/*\"]\n[handlers.buckets.keyvalue]\ndefault = {{ durability = \"1m\" }}\n",
        wasm.display()
    );
    std::fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    for nth in 0..20 {
        assert_eq!(ask(&host, &format!("/set?key=k{nth}&value=v")), "ok");
    }
    host.stop();
    let host = TestHost::serve_file(&file, "");
    assert_eq!(ask(&host, "/get-many?key=k&n=20"), "ok 20 of 20");
}

#[test]
fn what_may_be_on_disk_later_is_there_by_then_when_the_host_is_killed() {
    const WITHIN: Duration = Duration::from_millis(50);
    let place = Place::of("file").expect("it needs no server");
    let file = place.file("default = { durability = \"50ms\" }\n");
    let host = TestHost::serve_file(&file, "");
    let mut connection = host.connect();
    let mut acknowledged: Vec<Instant> = Vec::new();
    // Until one has begun so long after many others were acknowledged, and is acknowledged itself: those are on disk.
    let on_disk = loop {
        let nth = acknowledged.len();
        let began = Instant::now();
        let said = connection.get(&format!("/set?key=k{nth}&value=v")).text();
        assert_eq!(said, "ok \n");
        let long_ago = |at: &&Instant| began.duration_since(**at) >= WITHIN;
        let on_disk = acknowledged.iter().take_while(long_ago).count();
        if on_disk >= 20 {
            break on_disk;
        }
        acknowledged.push(Instant::now());
    };
    host.signal(Signal::KILL);
    host.ended();

    let host = TestHost::serve_file(&file, "");
    let said = ask(&host, &format!("/get-many?key=k&n={on_disk}"));
    assert_eq!(said, format!("ok {on_disk} of {on_disk}"));
    assert!(!host.stderr().iter().any(|line| line.contains("damaged")));

    // Also if nobody writes after it. A copy of the file is what is left of a host that is killed just then.
    assert_eq!(ask(&host, "/set?key=last&value=v"), "ok");
    let file = place.directory.path().join("state/keyvalue/file.redb");
    eventually("the last write on the disk", || {
        let copy = directory();
        let store = copy.path().join("keyvalue");
        std::fs::create_dir(&store).expect("made");
        std::fs::copy(&file, store.join("file.redb")).expect("copied");
        let flags = format!("--keyvalue default {}", state(copy.path()));
        let killed = TestHost::serve(BUCKETS, &flags);
        (ask(&killed, "/get?key=last") == "ok `v`").then_some(())
    });
}

#[test]
fn counters_lose_nothing_under_contention() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(BUCKETS, &place.flag("default"));
        let address = host.address;
        let threads: Vec<_> = (0..8)
            .map(|_| {
                std::thread::spawn(move || {
                    for _ in 0..5 {
                        for target in ["/increment?key=n&n=10", "/swap?key=s&n=5"] {
                            let said = Connection::to(address).get(target).text();
                            assert!(said.starts_with("ok "), "{said}");
                        }
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("counted");
        }
        assert_eq!(ask(&host, "/get?key=n"), "ok `400`", "{store}");
        assert_eq!(ask(&host, "/get?key=s"), "ok `200`", "{store}");
    }
}

#[test]
fn a_value_is_swapped_only_if_nobody_wrote_it_since() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(BUCKETS, &place.flag("default"));
        let ask = |target: &str| ask(&host, target);
        // Of one that is not there, too.
        assert_eq!(ask("/stale?key=k&value=1"), "ok none swapped", "{store}");
        assert_eq!(ask("/stale?key=k&value=2"), "ok `1` swapped");
        let stale = ask("/stale?key=k&value=3&between=set");
        assert_eq!(stale, "ok `2` `between` swapped", "{store}");
        // Written anew as it was, it is not what it was.
        let same = ask("/stale?key=k&value=4&between=same");
        assert_eq!(same, "ok `3` `3` swapped", "{store}");
        let gone = ask("/stale?key=k&value=5&between=delete");
        assert_eq!(gone, "ok `4` none swapped", "{store}");
        let new = ask("/stale?key=new&value=5&between=set");
        assert_eq!(new, "ok none `between` swapped", "{store}");
        assert_eq!(ask("/get?key=k"), "ok `5`");
    }
}

#[test]
fn a_number_that_is_none_or_leaves_its_range_is_an_error_and_stays_as_it_was() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(BUCKETS, &place.flag("default"));
        let ask = |target: &str| ask(&host, target);
        let most = i64::MAX;
        for (v, value, delta, said) in [
            (2, "x", "1", "no whole number"),
            (2, "007", "1", "no whole number"),
            (2, "", "1", "no whole number"),
            (2, &most.to_string(), "1", "too large"),
            (2, &i64::MIN.to_string(), "-1", "too large"),
            (1, "-1", "1", "too large"),
        ] {
            assert_eq!(ask(&format!("/set?key=k&value={value}")), "ok");
            let sum = ask(&format!("/increment?v={v}&key=k&delta={delta}"));
            assert!(
                sum.starts_with("other: ") && sum.contains(said),
                "{store} {value}: {sum}"
            );
            assert_eq!(ask("/get?key=k"), format!("ok `{value}`"), "{store}");
        }
        assert_eq!(ask("/set?key=k&value=9007199254740993"), "ok");
        assert_eq!(
            ask("/increment?key=k&delta=2"),
            "ok 9007199254740995",
            "{store}"
        );
    }
}

#[test]
fn a_bucket_takes_no_more_than_its_quota() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let buckets = "keys = { store = \"STORE\", max_keys = 3 }\nbytes = { store = \"STORE\", max_bytes = 100 }\nvalues = { store = \"STORE\", max_value = 10 }\n";
        let file = place.file(buckets);
        let host = TestHost::serve_file(&file, "");
        let ask = |target: &str| ask(&host, target);
        assert_eq!(ask("/set-many?bucket=keys&key=k&n=3&value=v"), "ok");
        for more in [
            "/set?bucket=keys&key=x&value=v",
            "/increment?bucket=keys&key=x",
            "/stale?bucket=keys&key=x&value=v",
            "/set-many?bucket=keys&key=x&n=2",
        ] {
            let said = ask(more);
            assert!(
                said.contains("no room for another key: it may have 3"),
                "{store} {more}: {said}"
            );
        }
        // What is there may change and go.
        assert_eq!(ask("/set?bucket=keys&key=k0&value=w"), "ok");
        assert_eq!(ask("/delete?bucket=keys&key=k0"), "ok");
        assert_eq!(ask("/increment?bucket=keys&key=x"), "ok 1");

        assert_eq!(ask("/set?bucket=bytes&key=abcd&size=96"), "ok");
        for more in [
            "/set?bucket=bytes&key=x&value=",
            "/set?bucket=bytes&key=abcd&size=97",
            "/increment?bucket=bytes&key=x",
            "/stale?bucket=bytes&key=abcd&size=97",
        ] {
            let said = ask(more);
            assert!(
                said.contains("no room for that: it may have 100 bytes"),
                "{store} {more}: {said}"
            );
        }
        assert_eq!(ask("/set?bucket=bytes&key=abcd&size=50"), "ok", "{store}");
        assert_eq!(ask("/set?bucket=bytes&key=x&size=45"), "ok", "{store}");

        let said = ask("/set?bucket=values&key=x&size=11");
        assert!(
            said.contains("11 bytes is too large for the bucket: it may have 10"),
            "{said}"
        );
        assert_eq!(ask("/set?bucket=values&key=x&size=10"), "ok");
        // What did not fit has changed nothing.
        assert_eq!(ask("/get-many?bucket=keys&key=x&n=2"), "ok 0 of 2");
    }
}

#[test]
fn what_is_at_a_ceiling_fits_and_one_byte_more_does_not_in_both_versions() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(BUCKETS, &place.flag("default"));
        let ask = |target: &str| ask(&host, target);
        let (most, longest) = (1024 * 1024, "k".repeat(1024));
        for v in [1, 2] {
            let at = format!("v={v}&key={longest}");
            assert_eq!(ask(&format!("/set?{at}&size={most}")), "ok", "{store} {v}");
            let got = ask(&format!("/get?{at}"));
            assert_eq!(got, format!("ok {most} bytes"), "{store} {v}");
            let more = most + 1;
            for operation in ["set", "set-many"] {
                let said = ask(&format!("/{operation}?v={v}&key=k&size={more}"));
                assert!(
                    said.contains(&format!("{more} bytes is too large for the bucket")),
                    "{store} {operation} {v}: {said}"
                );
            }
            // What is there stays, and what was refused is not there.
            assert_eq!(ask(&format!("/exists?{at}")), "ok true", "{store} {v}");
            assert_eq!(ask(&format!("/exists?v={v}&key=k")), "ok false");
            for operation in ["get", "set", "exists", "delete", "increment"] {
                let said = ask(&format!("/{operation}?{at}k"));
                assert_eq!(said, "other: a key has 1 to 1024 bytes", "{operation}");
            }
            assert_eq!(ask(&format!("/delete?{at}")), "ok");
        }
    }
}

#[test]
fn a_listing_that_is_given_up_costs_nothing_and_can_be_gone_on_with_after_a_restart() {
    let here = directory();
    let flags = format!("--keyvalue default {} --cpu 30s", state(here.path()));
    let host = TestHost::serve(BUCKETS, &flags);
    for thousand in 0..100 {
        let target = format!("/set-many?key={thousand}-&n=1000&value=v");
        assert_eq!(ask(&host, &target), "ok");
    }
    let page = |host: &TestHost, cursor: &str| {
        let page = ask(host, &format!("/page?cursor={cursor}"));
        let (keys, next) = page
            .strip_prefix("ok ")
            .and_then(|page| page.split_once(' '))
            .unwrap_or_else(|| panic!("no page: {page}"));
        (keys.parse::<usize>().expect("a number"), next.to_owned())
    };
    let (keys, next) = page(&host, "");
    assert_eq!(keys, 1_000);
    let before = host.memory();
    for _ in 0..200 {
        assert_eq!(page(&host, "").1, next);
    }
    let more = host.memory().saturating_sub(before);
    assert!(more < 64 * 1024 * 1024, "{more} bytes more");
    host.stop();
    let host = TestHost::serve(BUCKETS, &flags);
    let (keys, after) = page(&host, &next);
    assert_eq!(keys, 1_000);
    assert_ne!(after, next);
    // Cursors that no listing gave.
    assert_eq!(ask(&host, "/page?cursor=0"), "ok 0");
    let all = u64::MAX.to_string();
    assert_eq!(page(&host, &all), (1_000, next));
    for cursor in ["-1", "1e3", "18446744073709551616", "%00"] {
        let said = ask(&host, &format!("/page?cursor={cursor}"));
        assert_eq!(said, "other: the cursor is not one that a listing gave");
    }
}

#[test]
fn handles_for_a_swap_by_the_thousand_end_with_an_error_and_their_instance() {
    let host = TestHost::serve(BUCKETS, "--keyvalue default=memory --cpu 30s");
    for _ in 0..3 {
        let held = ask(&host, "/hold-swaps?key=none&n=5000");
        assert!(held.contains("too many things are open"), "{held}");
        assert_eq!(ask(&host, "/hold-swaps?key=none&n=900"), "ok 900");
    }
}

#[test]
fn every_listing_ends_also_while_others_write_and_has_each_key_once() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let host = TestHost::serve(BUCKETS, &format!("{} --cpu 30s", place.flag("default")));
        let ask = |target: &str| ask(&host, target);
        assert_eq!(ask("/list"), "ok 0 keys, 0 different, 1 pages");
        for thousand in 0..3 {
            assert_eq!(
                ask(&format!("/set-many?key={thousand}-&n=1000&value=v")),
                "ok"
            );
        }
        assert_eq!(
            ask("/list"),
            "ok 3000 keys, 3000 different, 3 pages",
            "{store}"
        );
        assert_eq!(ask("/list?v=1"), "ok 3000 keys, 3 pages", "{store}");
        let during = ask("/list?between=more");
        assert_eq!(during, "ok 3000 keys, 3000 different, 3 pages", "{store}");
        let after: usize = ask("/list")
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse().ok())
            .expect("a number");
        assert!(after > 3000, "others have written");
        // Keys that are long make pages short.
        let long = "k".repeat(1000);
        assert_eq!(
            ask("/page?cursor=nonsense"),
            "other: the cursor is not one that a listing gave"
        );
        assert_eq!(ask(&format!("/set-many?key={long}&n=200&value=v")), "ok");
        let page = ask("/page");
        let many: usize = page
            .split(' ')
            .nth(1)
            .and_then(|it| it.parse().ok())
            .expect("a number");
        assert!((50..200).contains(&many), "{store}: {page}");
    }
}

#[test]
fn tenants_share_no_bucket_and_handlers_of_one_tenant_do() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let handler = |name: &str, tenant: &str| {
            let source = BUCKETS.path();
            format!(
                "[handlers.{name}]\nsource = \"{}\"\n{tenant}\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n[handlers.{name}.keyvalue]\nb = {{ store = \"STORE\" }}\n",
                source.display()
            )
        };
        let rest = [
            "[tenants.acme]\n[tenants.acme-b]\n".to_owned(),
            handler("one", "tenant = \"acme\""),
            handler("two", "tenant = \"acme\""),
            handler("other", "tenant = \"acme-b\""),
            handler("own", ""),
            handler("own2", ""),
        ]
        .concat();
        let host = TestHost::serve_file(&place.file_of(&rest), "");
        let ask = |target: &str| ask(&host, target);
        for (name, value) in [("one", "acme"), ("other", "acme-b"), ("own", "operator")] {
            assert_eq!(
                ask(&format!("/{name}/set?bucket=b&key=k&value={value}")),
                "ok"
            );
        }
        for (name, value) in [
            ("one", "acme"),
            ("two", "acme"),
            ("other", "acme-b"),
            ("own", "operator"),
            ("own2", "operator"),
        ] {
            let said = ask(&format!("/{name}/get?bucket=b&key=k"));
            assert_eq!(said, format!("ok `{value}`"), "{store} {name}");
            assert_eq!(ask(&format!("/{name}/page?bucket=b")), "ok 1");
        }
    }
}

#[test]
fn what_a_guest_makes_the_host_hold_is_bounded() {
    let host = TestHost::serve(BUCKETS, "--keyvalue default=memory");
    let ask = |target: &str| ask(&host, target);
    assert_eq!(ask("/set?key=large&size=1000000"), "ok");
    let swaps = ask("/hold-swaps?key=large&n=1000");
    assert!(swaps.contains("hold too much"), "{swaps}");
    assert_eq!(ask("/hold-swaps?key=large&n=10"), "ok 10");
    assert_eq!(ask("/hold-buckets?n=900"), "ok 900");
    let buckets = ask("/hold-buckets?n=2000");
    assert!(buckets.contains("too many things are open"), "{buckets}");
    assert_eq!(ask("/set-many?key=m&n=4&size=1000000"), "ok");
    assert_eq!(ask("/get-many?key=m&n=4"), "ok 4 of 4");
    assert_eq!(ask("/set?key=m4&size=1000000"), "ok");
    let many = ask("/get-many?key=m&n=5");
    assert!(many.contains("ask for fewer at once"), "{many}");
    let many = ask("/set-many?key=m&n=5&size=1000000");
    assert!(many.contains("too many at once"), "{many}");
    for keys in [
        "/get-many?key=m&n=1001",
        "/delete-many?key=m&n=1001",
        "/set-many?key=m&n=1001",
    ] {
        assert!(
            ask(keys).contains("1001 keys are too many at once"),
            "{keys}"
        );
    }
    let long = "k".repeat(1025);
    for key in ["", &long] {
        for operation in ["get", "set", "exists", "delete", "increment", "stale"] {
            let said = ask(&format!("/{operation}?key={key}"));
            assert_eq!(said, "other: a key has 1 to 1024 bytes", "{operation}");
        }
    }
}

#[test]
fn a_handler_that_floods_a_store_leaves_room_for_others() {
    for store in STORES {
        let Some(place) = Place::of(store) else {
            continue;
        };
        let handler = |name: &str| {
            format!(
                "[handlers.{name}]\nsource = \"{}\"\nroutes = [{{ path = \"/{name}/*\", strip_prefix = true }}]\n[handlers.{name}.keyvalue]\n{name} = {{ store = \"STORE\" }}\n",
                BUCKETS.path().display()
            )
        };
        let file = place.file_of(&(handler("flood") + &handler("quiet")));
        let host = TestHost::serve_file(&file, "");
        let (address, is_over) = (host.address, Arc::new(AtomicBool::new(false)));
        // Twice what waits for a store at most.
        let flood: Vec<_> = (0..32)
            .map(|nth| {
                let is_over = Arc::clone(&is_over);
                std::thread::spawn(move || {
                    let mut connection = Connection::to(address);
                    let key = nth % 8;
                    while !is_over.load(Ordering::Relaxed) {
                        connection.get(&format!(
                            "/flood/set-many?bucket=flood&key={key}-&n=4&size=1000000"
                        ));
                    }
                })
            })
            .collect();
        eventually("the flood", || {
            (ask(&host, "/flood/exists?bucket=flood&key=0-3") == "ok true").then_some(())
        });
        for nth in 1..=10 {
            let sum = ask(&host, "/quiet/increment?bucket=quiet&key=n");
            assert_eq!(sum, format!("ok {nth}"), "{store}");
            let read = ask(&host, "/quiet/get?bucket=quiet&key=n");
            assert_eq!(read, format!("ok `{nth}`"), "{store}");
        }
        is_over.store(true, Ordering::Relaxed);
        for one in flood {
            one.join().expect("it was answered to its end");
        }
    }
}

#[test]
fn a_damaged_file_is_kept_aside_and_the_host_starts_with_an_empty_store() {
    let here = directory();
    let flags = format!("--keyvalue default {}", state(here.path()));
    let host = TestHost::serve(BUCKETS, &flags);
    assert_eq!(ask(&host, "/set?key=k&value=v"), "ok");
    host.stop();
    let file = here.path().join("keyvalue/file.redb");
    let good = std::fs::read(&file).expect("read");
    for (nth, bad) in [
        b"this is no database, and never was".to_vec(),
        good[..good.len() / 3].to_vec(),
        good.iter().map(|byte| byte ^ 0x55).collect(),
        Vec::new(),
        vec![0],
        vec![0; good.len()],
        // The name of its kind, and nothing behind; half of its head; a bit of the first byte.
        good[..16].to_vec(),
        good[..100].to_vec(),
        [&[good[0] ^ 1][..], &good[1..]].concat(),
        // All behind its head.
        [&good[..4096], &vec![0x55; good.len() - 4096][..]].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        std::fs::write(&file, &bad).expect("written");
        let host = TestHost::serve(BUCKETS, &flags);
        let aside = here
            .path()
            .join(format!("keyvalue/file.redb.damaged-{}", nth + 1));
        let said = host.says("begins empty");
        assert!(
            said.contains("is damaged") && said.contains(&*aside.to_string_lossy()),
            "{said}"
        );
        assert!(std::fs::read(&aside).expect("kept") == bad, "as it was");
        assert_eq!(ask(&host, "/get?key=k"), "ok none");
        assert_eq!(ask(&host, "/set?key=new&value=v"), "ok");
        let said = host.stop().stderr_text();
        assert!(!said.contains("panicked"), "{said}");
        let private = std::fs::metadata(&file).expect("made").permissions();
        assert_eq!(private.mode() & 0o777, 0o600);
    }
    // A copy that is put back is what it was.
    std::fs::write(&file, &good).expect("written");
    let host = TestHost::serve(BUCKETS, &flags);
    assert_eq!(ask(&host, "/get?key=k"), "ok `v`");
}

#[test]
fn two_hosts_do_not_share_a_file() {
    let here = directory();
    let flags = format!("--keyvalue default {}", state(here.path()));
    let _host = TestHost::serve(BUCKETS, &flags);
    let wasm = BUCKETS.path();
    let second = host(&format!(
        "serve --addr 127.0.0.1:0 {} {flags}",
        wasm.display()
    ));
    assert_eq!(second.code, Some(1));
    let said = second.stderr_text();
    assert!(
        said.contains("another host uses") && said.contains("--state"),
        "{said}"
    );
}

#[test]
fn a_grant_of_what_does_not_exist_is_a_mistake_of_the_file() {
    let here = directory();
    let file = here.path().join("host.toml");
    let wasm = BUCKETS.path();
    for (stores, buckets, said) in [
        (
            "",
            "b = \"carts\"",
            "no store `carts`: write `file` or `memory`, or a table `[stores.NAME]`",
        ),
        ("", "b = { store = \"carts\" }", "no store `carts`"),
        ("", "\"a/b\" = \"file\"", "a bucket:"),
        ("", "b = { max_value = \"5MiB\" }", "`wasi:blobstore`"),
        (
            "",
            "b = { durability = \"soon\" }",
            "write `each-write`, or `50ms`",
        ),
        (
            "",
            "b = { store = \"memory\", durability = \"50ms\" }",
            "`memory` is none",
        ),
        (
            "[stores.file]\ntype = \"memory\"",
            "b = \"file\"",
            "always there",
        ),
        (
            "[stores.r]\ntype = \"redis\"",
            "b = \"r\"",
            "`url` is missing",
        ),
        (
            "[stores.r]\ntype = \"redis\"\nurl = \"http://a\"",
            "b = \"r\"",
            "not the URL of a Redis",
        ),
        (
            "[stores.r]\ntype = \"redis\"\nurl = \"rediss://h/#insecure\"",
            "b = \"r\"",
            "`#insecure` would trust anybody",
        ),
        (
            "[stores.r]\ntype = \"redis\"\nurl = \"redis://u:hunter2@h\"",
            "b = \"r\"",
            "a secret that whoever reads this file can see",
        ),
        (
            "[stores.r]\ntype = \"file\"\nurl = \"redis://h\"",
            "b = \"r\"",
            "leave it out",
        ),
        (
            "[stores.r]\ntype = \"etcd\"",
            "b = \"r\"",
            "no kind of a store",
        ),
    ] {
        let text = format!(
            "{stores}\n[handlers.buckets]\nsource = \"{}\"\nroutes = [\"/*\"]\n[handlers.buckets.keyvalue]\n{buckets}\n",
            wasm.display()
        );
        std::fs::write(&file, text).expect("written");
        let checked = host(&format!("check {}", file.display()));
        let all = checked.stderr_text() + &checked.stdout_text();
        assert_eq!(checked.code, Some(78), "{all}");
        assert!(all.contains(said), "{buckets}: {all}");
        assert!(!all.contains("hunter2"), "{all}");
    }
    let bad = host(&format!("serve {} --keyvalue a=etcd://x", wasm.display()));
    assert_eq!(bad.code, Some(2));
    assert!(
        bad.stderr_text().contains("NAME=redis://HOST:PORT"),
        "{}",
        bad.stderr_text()
    );
}

#[test]
fn what_guests_ask_of_buckets_is_counted() {
    let here = directory();
    let file = here.path().join("host.toml");
    let text = format!(
        "[admin]\nsocket = \"admin.sock\"\n[state]\ndirectory = \"state\"\n[handlers.buckets]\nsource = \"{}\"\nroutes = [\"/*\"]\n[handlers.buckets.keyvalue]\ndefault = {{ store = \"memory\", max_keys = 1 }}\n",
        BUCKETS.path().display()
    );
    std::fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    for target in [
        "/set?key=a",
        "/set?key=b",
        "/get?key=a",
        "/stale?key=a&between=set",
        "/get?bucket=c",
        "/increment?key=a&value=",
    ] {
        ask(&host, target);
    }
    let page = Connection::to_unix(&here.path().join("admin.sock"))
        .get("/metrics")
        .text();
    for (operation, outcome, count) in [
        ("open", "ok", 5),
        ("open", "denied", 1),
        ("set", "ok", 2),
        ("set", "over-quota", 1),
        ("swap", "stale", 1),
        ("swap", "ok", 1),
        ("increment", "invalid", 1),
    ] {
        let line = format!(
            "host_keyvalue_operations_total{{host_handler=\"buckets\",host_operation=\"{operation}\",host_outcome=\"{outcome}\"}} {count}"
        );
        assert!(page.lines().any(|it| it == line), "{line} in {page}");
    }
}

#[test]
fn counter_counts_each_visit_of_a_path_once() {
    let here = directory();
    let flags = format!("--keyvalue counters {}", state(here.path()));
    let host = TestHost::serve(COUNTER, &flags);
    for (path, visits) in [("/a", 1), ("/a", 2), ("/b", 1), ("/a?x", 3)] {
        assert_eq!(ask(&host, path), visits.to_string(), "{path}");
    }
    host.stop();
    let host = TestHost::serve(COUNTER, &flags);
    assert_eq!(ask(&host, "/a"), "4");
    let host = TestHost::serve(COUNTER, "");
    assert_eq!(host.get("/a").status(), 500);
    host.says("--keyvalue counters");
}

#[test]
fn guestbook_shows_what_was_signed_escaped_and_after_a_redirect() {
    let here = directory();
    let handlers = here.path().join("handlers");
    std::fs::create_dir(&handlers).expect("made");
    for guest in [COUNTER, GUESTBOOK] {
        let name = guest.handler();
        std::fs::copy(guest.path(), handlers.join(format!("{name}.wasm"))).expect("copied");
        let manifest = format!(
            "{}/../guests/{name}/{name}.toml",
            env!("CARGO_MANIFEST_DIR")
        );
        std::fs::copy(manifest, handlers.join(format!("{name}.toml"))).expect("copied");
    }
    let host = TestHost::serve_file(&handlers, &state(&here.path().join("state")));
    assert_eq!(ask(&host, "/count/x"), "1");
    let sign = |form: &str| {
        let mut connection = host.connect();
        let length = form.len();
        connection.send(format!(
            "POST /guestbook/ HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {length}\r\n\r\n{form}"
        ));
        connection.reply()
    };
    let signed = sign("name=Ada+%3Cb%3E&text=%3Cscript%3Ealert(1)%3C%2Fscript%3E+%26+%22quotes%22");
    assert_eq!(
        (signed.status(), signed.header("location")),
        (303, Some("./"))
    );
    let book = host.get("/guestbook/").text();
    assert!(book.contains("<b>Ada &lt;b&gt;</b>"), "{book}");
    assert!(
        book.contains("&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;quotes&quot;"),
        "{book}"
    );
    assert!(!book.contains("<script>"), "{book}");

    let wrong = sign("name=&text=%22%3E%3Ci%3E");
    assert_eq!(wrong.status(), 422);
    let page = wrong.text();
    assert!(
        page.contains("write your name") && page.contains("&quot;&gt;&lt;i&gt;</textarea>"),
        "{page}"
    );
    for nth in 0..25 {
        assert_eq!(sign(&format!("name=n{nth}&text=t{nth}")).status(), 303);
    }
    let newest = host.get("/guestbook/").text();
    assert!(
        newest.contains("t24") && !newest.contains("t0<"),
        "{newest}"
    );
    let older = newest
        .split("href=\"")
        .nth(1)
        .and_then(|it| it.split('"').next())
        .expect("a link");
    let older = host.get(&format!("/guestbook/{older}")).text();
    assert!(
        older.contains("t0<") && older.contains("&lt;script&gt;") && !older.contains("older"),
        "{older}"
    );
    assert_eq!(
        sign(&format!("name=a&text={}", "x".repeat(20_000))).status(),
        413
    );
}

/// The stores that claims are made of.
const STORES: [&str; 3] = ["memory", "file", "redis"];

/// A store with nothing in it.
struct Place {
    store: &'static str,
    directory: tempfile::TempDir,
    redis: Option<Redis>,
}

impl Place {
    /// None, which is said, if there is no server for it on this machine.
    fn of(store: &'static str) -> Option<Self> {
        let directory = directory();
        let redis = match store {
            "redis" => Some(Redis::start(directory.path())?),
            _ => None,
        };
        Some(Self {
            store,
            directory,
            redis,
        })
    }

    fn flag(&self, bucket: &str) -> String {
        let place = match &self.redis {
            Some(redis) => redis.url(),
            None => self.store.to_owned(),
        };
        let state = state(&self.directory.path().join("state"));
        format!("--keyvalue {bucket}={place} {state}")
    }

    /// The file of a host with one handler that has these buckets, in `STORE`.
    fn file(&self, buckets: &str) -> std::path::PathBuf {
        self.file_of(&format!(
            "[handlers.buckets]\nsource = \"{}\"\nroutes = [\"/*\"]\n[handlers.buckets.keyvalue]\n{buckets}",
            BUCKETS.path().display()
        ))
    }

    fn file_of(&self, rest: &str) -> std::path::PathBuf {
        let (store, defined) = match &self.redis {
            Some(redis) => {
                let url = redis.url();
                (
                    "shared",
                    format!("[stores.shared]\ntype = \"redis\"\nurl = \"{url}\"\n"),
                )
            }
            None => (self.store, String::new()),
        };
        let rest = rest.replace("STORE", store);
        let file = self.directory.path().join("host.toml");
        let head = "admin = \"off\"\n[state]\ndirectory = \"state\"\n";
        std::fs::write(&file, format!("{head}{defined}{rest}")).expect("written");
        file
    }
}

/// One that nobody listens on just now.
fn free_port() -> u16 {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    free.local_addr().expect("its address").port()
}

/// A `redis-server` on a port of its own. Killed when it is dropped.
struct Redis {
    child: std::process::Child,
    port: u16,
    directory: std::path::PathBuf,
}

impl Redis {
    fn start(directory: &Path) -> Option<Self> {
        Self::start_at(free_port(), directory)
    }

    fn start_at(port: u16, directory: &Path) -> Option<Self> {
        Self::start_with(port, directory, &["--port", &port.to_string()])
    }

    /// Over TLS alone, for who knows this password. Debian's `redis-server` is built with it.
    fn start_tls(directory: &Path, own: &Signed, password: &str) -> Option<Self> {
        let (cert, key) = own.write(directory, "redis");
        let port = free_port();
        let words = format!(
            "--port 0 --tls-port {port} --tls-cert-file {} --tls-key-file {} --tls-auth-clients no --requirepass {password}",
            cert.display(),
            key.display()
        );
        let words: Vec<_> = words.split(' ').collect();
        Self::start_with(port, directory, &words)
    }

    /// Until somebody can connect to this port, which is what `listens` says.
    fn start_with(port: u16, directory: &Path, listens: &[&str]) -> Option<Self> {
        let child = std::process::Command::new("redis-server")
            .args(listens)
            .args(["--bind", "127.0.0.1"])
            .args([
                "--save",
                "",
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
            ])
            .arg("--dir")
            .arg(directory)
            .stdout(std::process::Stdio::null())
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) => {
                skipped(&format!(
                    "buckets in a Redis: `redis-server` does not start ({error}): `apt-get install redis-server`"
                ));
                return None;
            }
        };
        let began = eventually("the Redis", || match child.try_wait().expect("asked") {
            Some(ended) => Some(Err(ended)),
            None => std::net::TcpStream::connect(("127.0.0.1", port))
                .ok()
                .map(Ok),
        });
        if let Err(ended) = began {
            assert!(listens.contains(&"--tls-port"), "the Redis: {ended}");
            skipped(&format!(
                "a Redis over TLS: this `redis-server` is built without ({ended}): `apt-get install redis-server`"
            ));
            return None;
        }
        Some(Self {
            child,
            port,
            directory: directory.to_owned(),
        })
    }

    fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signalled");
    }

    /// Ends it at once, and starts it again at the same place.
    fn killed(mut self) -> (u16, std::path::PathBuf) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
        (self.port, self.directory.clone())
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a guest waits for a Redis at most is 5 s; the rest is the machine's.
const IN_TIME: Duration = Duration::from_secs(8);

#[test]
fn a_redis_that_goes_away_is_an_error_in_time_and_is_used_again_when_it_is_back() {
    let here = directory();
    let Some(redis) = Redis::start(here.path()) else {
        return;
    };
    let url = redis.url();
    let host = TestHost::serve(BUCKETS, &format!("--keyvalue default={url}"));
    assert_eq!(ask(&host, "/set?key=k&value=v"), "ok");
    // Killed under load.
    let address = host.address;
    let writers: Vec<_> = (0..8)
        .map(|writer| {
            let prefix = format!("w{writer}-");
            std::thread::spawn(move || write_until_it_fails(address, "default", &prefix))
        })
        .collect();
    eventually("some writes", || {
        (ask(&host, "/exists?key=w0-20") == "ok true").then_some(())
    });
    let (port, place) = redis.killed();
    let acknowledged: Vec<usize> = writers
        .into_iter()
        .map(|writer| writer.join().expect("a writer"))
        .collect();
    let began = Instant::now();
    let said = ask(&host, "/get?key=k");
    assert_eq!(
        said,
        "other: the store is not available now: try again later"
    );
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    host.says("does not answer");

    let redis = Redis::start_at(port, &place).expect("it was there");
    eventually("the Redis to be used again", || {
        (ask(&host, "/get?key=k") == "ok `v`").then_some(())
    });
    for (writer, many) in acknowledged.into_iter().enumerate() {
        for from in (0..many).step_by(1_000) {
            let upto = (many - from).min(1_000);
            let target = format!("/get-many?key=w{writer}-&from={from}&n={upto}");
            assert_eq!(ask(&host, &target), format!("ok {upto} of {upto}"));
        }
    }

    // One that is there and does not answer.
    redis.signal(Signal::STOP);
    let began = Instant::now();
    let said = ask(&host, "/increment?key=n");
    assert!(said.starts_with("other: the store"), "{said}");
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    redis.signal(Signal::CONT);
    eventually("the Redis to answer again", || {
        (ask(&host, "/get?key=k") == "ok `v`").then_some(())
    });
}

/// A server that takes commands, and answers each that is no part of a greeting as it was told.
struct FakeRedis {
    port: u16,
    asked: Arc<AtomicUsize>,
    says: Arc<Mutex<Says>>,
}

/// What it says: something, and then something else again and again, or the end of the connection.
#[derive(Clone, Default)]
struct Says {
    first: Vec<u8>,
    then: Vec<u8>,
    closes: bool,
}

impl FakeRedis {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let fake = Self {
            port: listener.local_addr().expect("its address").port(),
            asked: Arc::default(),
            says: Arc::default(),
        };
        let (asked, says) = (Arc::clone(&fake.asked), Arc::clone(&fake.says));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (asked, says) = (Arc::clone(&asked), Arc::clone(&says));
                std::thread::spawn(move || converse(stream, &asked, &says));
            }
        });
        fake
    }

    fn says(&self, first: impl Into<Vec<u8>>, then: &str, closes: bool) {
        *self.says.lock().expect("not poisoned") = Says {
            first: first.into(),
            then: then.into(),
            closes,
        };
    }
}

/// Ends with the connection.
fn converse(mut stream: TcpStream, asked: &AtomicUsize, says: &Mutex<Says>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let words = length(&mut reader)?;
        let mut command = Vec::new();
        for _ in 0..words {
            let mut word = vec![0; length(&mut reader)? + 2];
            reader.read_exact(&mut word).ok()?;
            command.push(word);
        }
        if command.first()?.starts_with(b"CLIENT") {
            stream.write_all(b"+OK\r\n").ok()?;
            continue;
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let says = says.lock().expect("not poisoned").clone();
        stream.write_all(&says.first).ok()?;
        if says.closes {
            return None;
        }
        while !says.then.is_empty() {
            stream.write_all(&says.then).ok()?;
        }
    }
}

/// The number of a line, after its sign.
fn length(reader: &mut impl BufRead) -> Option<usize> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    line.get(1..)?.trim().parse().ok()
}

#[test]
fn whatever_a_redis_answers_the_guest_gets_an_error_in_time_and_the_host_holds_little_of_it() {
    let fake = FakeRedis::start();
    let flags = format!(
        "--keyvalue default=redis://127.0.0.1:{} --keyvalue own=memory",
        fake.port
    );
    let host = TestHost::serve(BUCKETS, &flags);
    let good = "*2\r\n$2\r\nok\r\n*2\r\n$1\r\nv\r\n$3\r\n1:1\r\n";
    let answers = |what: &str| {
        eventually(what, || {
            (ask(&host, "/get?key=k") == "ok `v`").then_some(())
        });
    };
    fake.says(good, "", false);
    answers("a good answer");
    assert_eq!(ask(&host, "/set?bucket=own&key=k&value=v"), "ok");
    let before = host.memory();
    let megabyte = "x".repeat(1_000_000);
    let nested = "*1\r\n".repeat(100_000);
    let long = format!("$1000000\r\n{megabyte}\r\n");
    for (what, first, then, closes) in [
        ("a text of 2 GiB", "$2147483647\r\n", &*megabyte, false),
        ("a list without an end", "*2147483647\r\n", ":1\r\n", false),
        ("lists in lists", &*nested, "", false),
        ("a list of long texts", "*1000\r\n", &*long, false),
        ("a line without an end", "+", &*megabyte, false),
        ("no number", "$many\r\n", "", false),
        (
            "another protocol",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "",
            true,
        ),
        ("bytes", "\0\u{1}\u{7f}\r\n", "", false),
        ("the end", "", "", true),
        (
            "half of an answer",
            "*2\r\n$2\r\nok\r\n*2\r\n$1000\r\nv",
            "",
            true,
        ),
        ("nothing", "", "", false),
        ("half of an answer, and nothing", "*2\r\n$2\r\no", "", false),
        ("a number", ":1\r\n", "", false),
        ("no value", "$-1\r\n", "", false),
        ("an empty list", "*0\r\n", "", false),
        ("an error", "-ERR not today\r\n", "", false),
        (
            "parts of other kinds",
            "*2\r\n:1\r\n*1\r\n*0\r\n",
            "",
            false,
        ),
        (
            "an entry without numbers",
            "*2\r\n$2\r\nok\r\n*2\r\n$1\r\nv\r\n$1\r\nx\r\n",
            "",
            false,
        ),
    ] {
        fake.says(first, then, closes);
        let asked = fake.asked.load(Ordering::Relaxed);
        // After an error it is not connected to for a moment.
        let said = eventually(&format!("a question that gets {what}"), || {
            let said = ask(&host, "/get?key=k");
            (fake.asked.load(Ordering::Relaxed) > asked).then_some(said)
        });
        assert_eq!(
            said, "other: the store is not available now: try again later",
            "{what}"
        );
        assert_eq!(ask(&host, "/get?bucket=own&key=k"), "ok `v`", "{what}");
        fake.says(good, "", false);
        answers(&format!("a good answer after {what}"));
    }
    let more = host.memory().saturating_sub(before);
    assert!(more < 64 * 1024 * 1024, "{more} bytes more");
    host.says("does not answer");
}

#[test]
fn a_host_starts_without_its_redis_and_says_so() {
    let port = free_port();
    let host = TestHost::serve(
        BUCKETS,
        &format!("--keyvalue default=redis://:hunter2@127.0.0.1:{port}"),
    );
    host.says("does not answer");
    assert_eq!(
        ask(&host, "/get?key=k"),
        "other: the store is not available now: try again later"
    );
    assert_eq!(ask(&host, "/get?bucket=other&key=k"), "access-denied");
    let here = directory();
    let listens = format!("--port {port} --requirepass hunter2");
    let listens: Vec<_> = listens.split(' ').collect();
    if let Some(_redis) = Redis::start_with(port, here.path(), &listens) {
        eventually("the Redis to be used that came later", || {
            (ask(&host, "/set?key=k&value=v") == "ok").then_some(())
        });
        assert_eq!(ask(&host, "/get?key=k"), "ok `v`");
    }
    assert!(!host.stderr().iter().any(|line| line.contains("hunter2")));
}

#[test]
fn a_redis_over_tls_is_used_if_its_authority_is_trusted_and_its_name_is_right() {
    let here = directory();
    let (authority, stranger) = (Authority::new("ours"), Authority::new("theirs"));
    let own = authority.sign(&["localhost"]);
    let Some(redis) = Redis::start_tls(here.path(), &own, "hunter2") else {
        return;
    };
    for (name, user, trusted, is_used) in [
        ("localhost", ":hunter2@", &authority, true),
        ("localhost", ":hunter3@", &authority, false),
        ("localhost", ":hunter2@", &stranger, false),
        ("127.0.0.1", ":hunter2@", &authority, false),
    ] {
        let ca = here.path().join("ca.pem");
        std::fs::write(&ca, trusted.pem()).expect("written");
        let trusts = [("SSL_CERT_FILE", ca.to_str().expect("a path"))];
        let flags = format!("--keyvalue default=rediss://{user}{name}:{}/1", redis.port);
        let host = TestHost::serve_with(&trusts, &BUCKETS.path(), &flags);
        let what = format!("{user}{name} {is_used}");
        if is_used {
            assert_eq!(ask(&host, "/set?key=k&value=v"), "ok", "{what}");
            assert_eq!(ask(&host, "/get?key=k"), "ok `v`", "{what}");
            assert_eq!(ask(&host, "/increment?key=n&delta=3"), "ok 3", "{what}");
            // Many pieces of TLS, both ways.
            let large = "/set-many?key=large&n=3&size=500000";
            assert_eq!(ask(&host, large), "ok", "{what}");
            let found = ask(&host, "/get-many?key=large&n=3");
            assert_eq!(found, "ok 3 of 3", "{what}");
        } else {
            host.says("does not answer");
            let said = ask(&host, "/get?key=k");
            assert_eq!(
                said, "other: the store is not available now: try again later",
                "{what}"
            );
        }
        let said = host.stderr().join("\n");
        assert!(!said.contains("hunter"), "{what}: {said}");
    }
}

#[test]
fn hosts_share_what_is_in_a_redis() {
    let Some(place) = Place::of("redis") else {
        return;
    };
    let one = TestHost::serve(BUCKETS, &place.flag("default"));
    let url = place.redis.as_ref().expect("there").url();
    let other = TestHost::serve(BUCKETS, &format!("--keyvalue default={url}"));
    assert_eq!(ask(&one, "/increment?key=n&n=3"), "ok 3");
    assert_eq!(ask(&other, "/increment?key=n&n=3"), "ok 6");
}
