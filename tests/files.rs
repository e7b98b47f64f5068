//! Files of a guest: what was granted and nothing beside it, whatever is swapped meanwhile; and a scratch directory of
//! its own, within its quota and gone with it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode};

use crate::support::program::without_settings;
use crate::support::*;

const BOTH: [Guest; 2] = [PROBE, PROBE_P3];

/// A granted directory beside what must not be reached from it.
fn site() -> tempfile::TempDir {
    let site = directory();
    let granted = site.path().join("granted");
    fs::create_dir_all(granted.join("inner")).expect("made");
    fs::write(granted.join("inside"), "inside").expect("written");
    fs::write(granted.join("inner/deep"), "deep").expect("written");
    fs::create_dir(site.path().join("outer")).expect("made");
    fs::write(site.path().join("outer/inside"), "outside").expect("written");
    fs::write(site.path().join("outside"), "outside").expect("written");
    site
}

/// What is in a directory, sorted.
fn names(directory: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(directory).expect("read");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .collect();
    names.sort();
    names
}

fn granted(site: &tempfile::TempDir, mode: &str) -> String {
    format!(
        "--dir {}::/data{mode}",
        site.path().join("granted").display()
    )
}

#[test]
fn no_path_leads_out_of_a_granted_directory() {
    let site = site();
    let inside = site.path().join("granted");
    symlink(site.path().join("outside"), inside.join("absolute")).expect("linked");
    symlink("../outside", inside.join("relative")).expect("linked");
    symlink("..", inside.join("up")).expect("linked");
    symlink("inner/deep", inside.join("good")).expect("linked");
    symlink("loop", inside.join("loop")).expect("linked");
    for guest in BOTH {
        let host = TestHost::serve(guest, &granted(&site, ":rw"));
        let read = |path: &str| host.get(&format!("/read?path={path}")).text();
        assert_eq!(read("/data/inside"), "read: inside\n", "{guest}");
        assert_eq!(read("/data/good"), "read: deep\n", "{guest}");
        assert_eq!(read("/data/inner/../inside"), "read: inside\n", "{guest}");
        for path in [
            "/data/../outside",
            "/data/inner/../../outside",
            "/data/absolute",
            "/data/relative",
            "/data/up/outside",
            "/data/absolute/",
            "/data/relative/",
            "/data/up/",
            "/data/up/outside/",
            "/data/../",
            "/data/loop",
            "/data/inside/",
            "/data/good/",
            "/data/inside/..",
            "/data//etc/passwd",
            "/data/../../../../../../etc/passwd",
            "/data/nothing",
        ] {
            let said = read(path);
            assert!(said.starts_with("refused"), "{guest} {path}: {said}");
            if !path.contains("good") && !path.contains("inside") {
                let said = host.get(&format!("/write?path={path}")).text();
                let is_new = path == "/data/nothing" || path == "/data//etc/passwd";
                assert!(
                    is_new || said.starts_with("refused"),
                    "{guest} {path}: {said}"
                );
            }
        }
        for target in [
            "/list?path=/data/up",
            "/list?path=/data/up/",
            "/list?path=/data/up/outer/",
            "/list?path=/data/..",
            "/list?path=/data/../",
            "/append?path=/data/absolute/",
            "/append?path=/data/up/outside/",
            "/truncate?path=/data/relative/",
            "/mkdir?path=/data/up/made",
            "/mkdir?path=/data/up/made/",
            "/mkdir?path=/data/../made/",
            "/remove?path=/data/up/outside",
            "/remove?path=/data/up/outside/",
            "/rename?from=/data/up/outside&to=/data/taken",
            "/rename?from=/data/inside&to=/data/up/given",
            "/rename?from=/data/inside&to=/data/up/given/",
            "/link?from=/data/up/outside&to=/data/taken",
            "/link?from=/data/inside&to=/data/up/given",
        ] {
            let said = host.get(target).text();
            assert!(said.starts_with("refused"), "{guest} {target}: {said}");
        }
        // A guest's own links lead no further.
        for (to, path) in [("../outside", "/data/own"), ("../..", "/data/own-up")] {
            host.get(&format!("/symlink?to={to}&path={path}"));
        }
        for path in ["/data/own", "/data/own-up/outside"] {
            let said = read(path);
            assert!(said.starts_with("refused"), "{guest} {path}: {said}");
        }
        for left in ["own", "own-up", "nothing"] {
            let _ = fs::remove_file(inside.join(left));
        }
    }
    let outside = fs::read_to_string(site.path().join("outside")).expect("read");
    assert_eq!(outside, "outside");
    assert_eq!(names(site.path()), ["granted", "outer", "outside"]);
    assert_eq!(names(&site.path().join("outer")), ["inside"]);
}

#[test]
fn a_file_of_many_pieces_is_read_and_written_whole() {
    let site = site();
    let large = "0123456789".repeat(100_000);
    fs::write(site.path().join("granted/large"), &large).expect("written");
    fs::write(site.path().join("granted/empty"), "").expect("written");
    for guest in BOTH {
        let host = TestHost::serve(guest, &granted(&site, ":rw"));
        let ask = |target: &str| host.get(target).text();
        assert!(ask("/read?path=/data/large") == format!("read: {large}\n"));
        assert_eq!(ask("/read?path=/data/empty"), "read: \n", "{guest}");
        let new = site.path().join("granted/new");
        ask("/write?path=/data/new&n=1000000");
        assert!(fs::read(&new).expect("there") == vec![b'x'; 1_000_000]);
        ask("/append?path=/data/new&n=200000");
        assert!(fs::read(&new).expect("there") == vec![b'x'; 1_200_000]);
        fs::remove_file(new).expect("removed");
        assert!(ask("/read?path=/data/inner").starts_with("refused"));
    }
}

#[test]
fn a_listing_has_every_name_once_however_many_there_are() {
    let site = site();
    let many = site.path().join("granted/many");
    fs::create_dir(&many).expect("made");
    for nth in 0..2_000 {
        fs::write(many.join(format!("file-{nth}")), "").expect("written");
    }
    let host = TestHost::serve(PROBE_P3, &granted(&site, ""));
    let list = |path: &str| host.get(&format!("/list?path={path}")).text();
    assert_eq!(list("/data/many"), "2000 names, 2000 different\n");
    assert_eq!(list("/data/inner"), "1 names, 1 different\n");
    assert!(list("/data/inside").starts_with("refused"));

    let host = TestHost::serve(PROBE, &granted(&site, ""));
    let list = |path: &str| host.get(&format!("/list?path={path}")).text();
    let mut names: Vec<_> = (0..2_000).map(|nth| format!("file-{nth}\n")).collect();
    names.sort();
    assert!(list("/data/many") == names.concat());
    assert_eq!(list("/data/inner"), "deep\n");
    assert!(list("/data/inside").starts_with("refused"));
    assert!(list("/data/nothing").starts_with("refused"));
}

/// Clock ticks of CPU time that a process has used, as seconds.
fn cpu_time(host: &TestHost) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", host.pid())).expect("/proc of the host");
    // The name of the program, in brackets, may have spaces.
    let (_, fields) = stat.rsplit_once(") ").expect("fields");
    let fields: Vec<_> = fields.split(' ').collect();
    let ticks = |nth: usize| fields[nth].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

#[test]
fn what_the_host_does_with_files_is_charged_to_the_request_that_asks_for_it() {
    let site = site();
    for nth in 0..2_000 {
        fs::write(site.path().join(format!("granted/file-{nth}")), "").expect("written");
    }
    for guest in BOTH {
        let host = TestHost::serve(guest, &granted(&site, ""));
        // Of two thousand names the guest takes one each time: the rest is the host's work.
        assert_eq!(host.get("/peek?path=/data&n=1").text(), "done\n", "{guest}");
        let before = cpu_time(&host);
        let reply = host.get("/peek?path=/data&n=500");
        assert_eq!(reply.text(), "done\n", "{guest}");
        let used = cpu_time(&host) - before;
        let charged = host.access(&reply).number("host.guest.cpu_time");
        assert!(charged > used / 2.0, "{guest}: {charged} of {used} s");

        let host = TestHost::serve(guest, &format!("--cpu 100ms {}", granted(&site, "")));
        let reply = host.get("/peek?path=/data&n=100000");
        assert_eq!(reply.status(), 500, "{guest}");
        assert_eq!(host.access(&reply).label(), "cpu-limit", "{guest}");
    }
}

#[test]
fn a_guest_that_only_waits_for_what_the_host_does_for_it_is_stopped_meanwhile() {
    const WHOLE: u64 = 256 << 20;
    let site = site();
    let granted_to = |name: &str| site.path().join("granted").join(name);
    let whole = fs::File::create(granted_to("whole")).expect("made");
    whole.set_len(WHOLE).expect("it takes no room");
    for more in ["", "--max-instance-concurrent-reuse-count 8"] {
        let flags = format!("--cpu 50ms {more} {}", granted(&site, ":rw"));
        let host = TestHost::serve(PROBE_P3, &flags);
        let reply = host.get("/copy?path=/data/inside&to=/data/copy");
        assert_eq!(reply.text(), "done\n", "{more}");
        let copied = fs::read(granted_to("copy")).expect("copied");
        assert_eq!(copied, b"inside", "{more}");
        let reply = host.get("/copy?path=/data/whole&to=/data/copy");
        assert_eq!(reply.status(), 500, "{more}");
        assert_eq!(host.access(&reply).label(), "cpu-limit", "{more}");
        let copied = fs::metadata(granted_to("copy")).expect("begun").len();
        assert!(copied < WHOLE, "{more}: {copied} bytes");
    }
}

#[test]
fn a_listing_of_a_large_directory_is_never_whole_in_memory() {
    let site = site();
    let many = site.path().join("granted/many");
    fs::create_dir(&many).expect("made");
    for nth in 0..20_000 {
        fs::write(many.join(format!("a-file-with-a-name-{nth}")), "").expect("written");
    }
    let host = TestHost::serve(PROBE, &granted(&site, ""));
    let hold = |n: usize| host.get(&format!("/hold-listings?in=/data/many&n={n}"));
    assert_eq!(hold(1).text(), "1 held\n");
    let before = host.peak_memory();
    // Whole, they would be some two hundred megabytes.
    assert_eq!(hold(100).text(), "100 held\n");
    let grown = host.peak_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown}");
    let reply = hold(1_000);
    assert_eq!(reply.status(), 500);
    assert_eq!(host.access(&reply).label(), "memory-limit");
}

#[test]
fn what_streams_and_listings_have_open_is_counted_too() {
    let site = site();
    let host = TestHost::serve(PROBE_P3, &granted(&site, ""));
    let hoard = |n: usize| host.get(&format!("/hoard?path=/data/inside&in=/data/inner&n={n}"));
    assert_eq!(hoard(100).text(), "200 held\n");
    // They are the request's, and gone with it.
    assert_eq!(hoard(100).text(), "200 held\n");
    let reply = hoard(1_000);
    assert_eq!(reply.status(), 500);
    assert_eq!(host.access(&reply).label(), "memory-limit");
    assert_eq!(host.get("/read?path=/data/inside").text(), "read: inside\n");
}

#[test]
fn a_guest_may_open_no_more_than_its_share_of_the_processs_descriptors() {
    let site = site();
    // A quarter of the two hundred is for guests, and three quarters of that for one of them.
    for (guest, target, all) in [
        (PROBE, "/unlinked?path=/data&files=", "all\n"),
        (
            PROBE_P3,
            "/hoard?path=/data/inside&in=/data/inner&n=",
            "6 held\n",
        ),
    ] {
        let host = TestHost::serve_with_open_files(200, guest, &granted(&site, ":rw"));
        let many = host.get(&format!("{target}100"));
        let said = many.text();
        let is_refused = said.starts_with("refused") || said.contains(" files, then ");
        assert!(is_refused, "{guest}: {said}");
        assert_eq!(many.status(), 200, "{guest}: it can handle that");
        // They are gone with the request.
        eventually("room for some", || {
            (host.get(&format!("{target}3")).text() == all).then_some(())
        });
    }
}

#[test]
fn what_listings_have_in_the_hosts_memory_counts_as_their_guests() {
    let site = site();
    let flags = format!("--memory 8MiB {}", granted(&site, ""));
    let host = TestHost::serve(PROBE_P3, &flags);
    let hoard = |n: usize| host.get(&format!("/hoard?path=/data/inside&in=/data/inner&n={n}"));
    assert_eq!(hoard(5).text(), "10 held\n");
    // A page each, however little of it the guest has taken.
    let reply = hoard(100);
    assert_eq!(reply.status(), 500);
    assert_eq!(host.access(&reply).label(), "memory-limit");
}

#[test]
fn what_streams_have_in_the_hosts_memory_counts_as_their_guests() {
    let site = site();
    let flags = format!("--memory 16MiB {}", granted(&site, ""));
    let host = TestHost::serve(PROBE, &flags);
    let hold = |streams: u32, n: u32| {
        host.get(&format!("/hold?path=/data/inside&streams={streams}&n={n}"))
    };
    // The pieces are as large as what was asked for, however short the file is.
    assert_eq!(hold(10, 256 << 10).text(), "10 held\n");
    assert_eq!(hold(500, 1 << 10).text(), "500 held\n");
    let reply = hold(500, 256 << 10);
    assert_eq!(reply.status(), 500);
    assert_eq!(host.access(&reply).label(), "memory-limit");
    assert_eq!(host.get("/read?path=/data/inside").text(), "read: inside\n");
}

#[test]
fn what_is_read_only_changes_in_no_way() {
    let targets = [
        "/write?path=/data/new",
        "/write?path=/data/inside",
        "/append?path=/data/inside",
        "/truncate?path=/data/inside",
        "/mkdir?path=/data/made",
        "/remove?path=/data/inside",
        "/rename?from=/data/inside&to=/data/moved",
        "/link?from=/data/inside&to=/data/linked",
        "/symlink?to=inside&path=/data/linked",
        "/times?path=/data/inside",
    ];
    let site = site();
    // What a handler was refused is told at most once in ten seconds: here each is refused one thing.
    let mut text = String::new();
    for guest in BOTH {
        let wasm = format!("{guest}.wasm");
        fs::copy(guest.path(), site.path().join(&wasm)).expect("copied");
        for nth in 0..targets.len() {
            text += &format!(
                "[handlers.{guest}-{nth}]\nsource = \"{wasm}\"\nroutes = [{{ path = \"/{guest}-{nth}/*\", strip_prefix = true }}]\ndirs = [{{ host = \"granted\", guest = \"/data\" }}]\n"
            );
        }
    }
    let file = site.path().join("host.toml");
    fs::write(&file, text).expect("written");
    let host = TestHost::serve_file(&file, "");
    let before = fs::metadata(site.path().join("granted/inside")).expect("there");
    for guest in BOTH {
        for (nth, target) in targets.into_iter().enumerate() {
            let handler = format!("{guest}-{nth}");
            let read = host.get(&format!("/{handler}/read?path=/data/inside"));
            assert_eq!(read.text(), "read: inside\n", "{guest}");
            let said = host.get(&format!("/{handler}{target}")).text();
            assert!(said.starts_with("refused"), "{guest} {target}: {said}");
            host.says(&format!("`{handler}` may not write in `/data`: add `writable = true` to it in its `dirs`, or say `--dir HOST::/data:rw`"));
        }
    }
    let told = host.stderr();
    let told = told.iter().filter(|line| line.contains("may not write"));
    assert_eq!(told.count(), 2 * targets.len());
    let after = fs::metadata(site.path().join("granted/inside")).expect("there");
    assert_eq!(after.modified().ok(), before.modified().ok());
    assert_eq!(names(&site.path().join("granted")), ["inner", "inside"]);
}

#[test]
fn a_link_that_is_swapped_under_a_guests_feet_leads_nowhere() {
    let site = site();
    let inside = site.path().join("granted");
    symlink("inner", inside.join("swapped")).expect("linked");
    fs::write(inside.join("inner/inside"), "inside").expect("written");
    let host = TestHost::serve(PROBE, &granted(&site, ""));
    let over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        scope.spawn(|| {
            let next = inside.join("next");
            for to in ["../outer", "inner"].iter().cycle() {
                symlink(to, &next).expect("linked");
                fs::rename(&next, inside.join("swapped")).expect("renamed");
                if over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let seen = host
            .get("/open-often?path=/data/swapped/inside&n=2000")
            .text();
        over.store(true, Ordering::Relaxed);
        seen
    });
    assert!(seen.contains("read: inside"), "{seen}");
    assert!(!seen.contains("outside"), "{seen}");
}

#[test]
fn a_pipe_or_a_device_in_a_granted_directory_holds_nobody_up() {
    let site = site();
    let pipe = site.path().join("granted/pipe");
    rustix::fs::mkfifoat(CWD, &pipe, Mode::RUSR | Mode::WUSR).expect("made");
    symlink("pipe", site.path().join("granted/to-pipe")).expect("linked");
    let socket = site.path().join("granted/socket");
    let _listening = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    for guest in BOTH {
        let host = TestHost::serve(guest, &granted(&site, ":rw"));
        for path in ["/data/pipe", "/data/to-pipe", "/data/socket"] {
            for what in ["read", "write", "append", "truncate"] {
                let began = Instant::now();
                let said = host.get(&format!("/{what}?path={path}")).text();
                assert!(said.starts_with("refused"), "{guest} {what} {path}: {said}");
                assert!(
                    began.elapsed() < Duration::from_secs(10),
                    "{guest} {what} {path}"
                );
            }
            let began = Instant::now();
            host.get(&format!("/times?path={path}"));
            assert!(began.elapsed() < Duration::from_secs(10), "{guest} {path}");
        }
    }
}

#[test]
fn who_swaps_a_pipe_for_a_file_holds_nobody_up() {
    let site = site();
    let inside = site.path().join("granted");
    let host = TestHost::serve(PROBE, &granted(&site, ""));
    let over = AtomicBool::new(false);
    let (said, took) = thread::scope(|scope| {
        scope.spawn(|| {
            let next = inside.join("next");
            while !over.load(Ordering::Relaxed) {
                rustix::fs::mkfifoat(CWD, &next, Mode::RUSR).expect("made");
                fs::rename(&next, inside.join("swapped")).expect("renamed");
                fs::write(&next, "inside").expect("written");
                fs::rename(&next, inside.join("swapped")).expect("renamed");
            }
        });
        let (mut said, mut took) = (String::new(), Duration::ZERO);
        // Who swaps may stand still for as long as one of them takes.
        for _ in 0..50 {
            let began = Instant::now();
            said += &host.get("/open-often?path=/data/swapped&n=2000").text();
            took = took.max(began.elapsed());
            if said.contains("read: inside") && said.contains("refused") {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        (said, took)
    });
    assert!(
        said.contains("read: inside") && said.contains("refused"),
        "{said}"
    );
    assert!(took < Duration::from_secs(25), "{took:?}");
}

/// A host whose temporary files are here.
fn with_scratch(here: &Path, guest: Guest, flags: &str) -> TestHost {
    let mut program = without_settings(Command::new(env!("CARGO_BIN_EXE_host")));
    program.env("TMPDIR", here);
    TestHost::serve_as(program, guest, flags)
}

/// Bytes and files of all scratch directories.
fn taken(directory: &Path) -> (u64, u64) {
    let mut sum = (0, 0);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else {
            continue;
        };
        if metadata.is_dir() {
            let (bytes, files) = taken(&entry.path());
            sum = (sum.0 + bytes, sum.1 + files);
        } else {
            sum = (sum.0 + metadata.len(), sum.1 + 1);
        }
    }
    sum
}

#[test]
fn an_instance_has_a_scratch_directory_of_its_own_that_goes_with_it() {
    for guest in BOTH {
        let here = directory();
        let reuse = "--scratch 1MiB --max-instance-reuse-count 2 --max-concurrent-requests 1";
        let host = with_scratch(here.path(), guest, reuse);
        assert_eq!(
            host.get("/write?path=/tmp/file&n=1000").text(),
            "written 1000\n"
        );
        assert!(
            host.get("/read?path=/tmp/file")
                .text()
                .starts_with("read: xxx")
        );
        // Another instance.
        let said = host.get("/read?path=/tmp/file").text();
        assert!(said.starts_with("refused"), "{guest}: {said}");
        host.get("/count");
        eventually("that nothing is left", || {
            (taken(here.path()) == (0, 0)).then_some(())
        });
        let ended = host.stop();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    let host = TestHost::serve(PROBE, "");
    let said = host.get("/write?path=/tmp/file").text();
    assert!(said.starts_with("refused"), "{said}");
}

#[test]
fn a_scratch_directory_takes_no_more_than_its_quota_however_it_is_filled() {
    for guest in BOTH {
        let here = directory();
        let host = with_scratch(
            here.path(),
            guest,
            "--scratch 1MiB --max-instance-reuse-count 1000 --idle-instance-timeout 1h --max-concurrent-requests 1",
        );
        let refuses = |target: &str| {
            let said = host.get(target).text();
            // wasi-libc of 0.2 knows one error for all that goes wrong in a stream.
            let is_refused = ["space", "Space", "storage", "I/O error"]
                .iter()
                .any(|it| said.contains(it));
            assert!(is_refused, "{guest} {target}: {said}");
            let (bytes, files) = taken(here.path());
            assert!(
                bytes <= 1 << 20 && files <= 1_000,
                "{guest} {target}: {bytes} {files}"
            );
        };
        assert_eq!(
            host.get("/write?path=/tmp/half&n=524288").text(),
            "written 524288\n"
        );
        refuses("/write?path=/tmp/file&n=2000000");
        refuses("/truncate?path=/tmp/sparse&n=10000000");
        refuses("/append?path=/tmp/half&n=2000000");
        // What is written over takes no more, and what is cut short makes room.
        assert_eq!(host.get("/truncate?path=/tmp/file&n=0").text(), "done\n");
        assert_eq!(host.get("/truncate?path=/tmp/half&n=0").text(), "done\n");
        for _ in 0..5 {
            assert_eq!(
                host.get("/write?path=/tmp/half&n=1000000").text(),
                "written 1000000\n"
            );
        }
        assert_eq!(host.get("/truncate?path=/tmp/half&n=0").text(), "done\n");
        refuses("/fill?path=/tmp&files=2000&n=1");
        refuses("/mkdir?path=/tmp/made");
    }
}

#[test]
fn what_has_no_name_any_more_takes_room_until_it_is_closed() {
    let here = directory();
    let reuse = "--scratch 1MiB --max-instance-reuse-count 1000 --idle-instance-timeout 1h --max-concurrent-requests 1";
    let host = with_scratch(here.path(), PROBE, reuse);
    let said = host.get("/unlinked?path=/tmp&files=20&n=100000").text();
    assert!(said.starts_with("10 files, then"), "{said}");
    // Closed, they are gone.
    let said = host.get("/unlinked?path=/tmp&files=10&n=100000").text();
    assert_eq!(said, "all\n");
    assert_eq!(
        host.get("/churn?path=/tmp&n=500000&times=50").text(),
        "done\n"
    );
    for i in 0..100 {
        let said = host.get(&format!("/mkdir?path=/tmp/{i}")).text();
        assert_eq!(said, "done\n", "{i}");
    }
    assert!(
        host.get("/mkdir?path=/tmp/more")
            .text()
            .starts_with("refused")
    );
}

#[test]
fn nothing_is_moved_into_a_scratch_directory_past_its_quota() {
    let (here, site) = (directory(), site());
    fs::write(site.path().join("granted/large"), vec![b'x'; 2 << 20]).expect("written");
    let flags = format!("--scratch 1MiB {}", granted(&site, ":rw"));
    let host = with_scratch(here.path(), PROBE, &flags);
    for what in ["rename", "link"] {
        let said = host
            .get(&format!("/{what}?from=/data/large&to=/tmp/large"))
            .text();
        assert!(said.starts_with("refused"), "{what}: {said}");
    }
    assert_eq!(taken(here.path()), (0, 0));
}

#[test]
fn what_a_host_leaves_over_that_is_killed_the_next_one_removes() {
    let here = directory();
    let reuse = "--scratch 1MiB --max-instance-reuse-count 1000 --idle-instance-timeout 1h --max-concurrent-requests 1";
    let killed = with_scratch(here.path(), PROBE, reuse);
    let lives = with_scratch(here.path(), PROBE, reuse);
    for host in [&killed, &lives] {
        assert_eq!(
            host.get("/write?path=/tmp/file&n=1000").text(),
            "written 1000\n"
        );
    }
    killed.signal(rustix::process::Signal::KILL);
    killed.ended();
    assert_eq!(taken(here.path()), (2_000, 2));
    let _next = with_scratch(here.path(), PROBE, "");
    eventually("that it is removed", || {
        (taken(here.path()) == (1_000, 1)).then_some(())
    });
    assert!(
        lives
            .get("/read?path=/tmp/file")
            .text()
            .starts_with("read: xxx")
    );
}

#[test]
fn every_mistake_of_directories_comes_out_in_one_run() {
    let site = directory();
    fs::copy(PROBE.path(), site.path().join("shop.wasm")).expect("copied");
    fs::write(site.path().join("file"), "").expect("written");
    let file = site.path().join("host.toml");
    let text = r#"
[handlers.shop]
source = "shop.wasm"
routes = ["/*"]
scratch = "1KiB"
sockets = ["db.example.com:5432", "tcp://0.0.0.0/0:80"]
dirs = [{ host = "gone", guest = "/a" }, { host = "file", guest = "/b" }, { host = ".", guest = "" }]
[handlers.more]
source = "shop.wasm"
routes = ["/more/*"]
scratch = "1MiB"
dirs = [{ host = ".", guest = "/tmp" }]
"#;
    fs::write(&file, text).expect("written");
    let checked = host(&format!("check {}", file.display()));
    assert_eq!(checked.code, Some(78), "{checked:?}");
    let said = checked.stderr_text() + &checked.stdout_text();
    for mistake in [
        "less than 4KiB",
        "not a place for sockets",
        "a network of all addresses",
        "make it first",
        "is a file",
        "an empty name",
        "give that one another name",
    ] {
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
}
