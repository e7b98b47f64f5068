//! What a guest reaches: nothing of the host's, unless it was granted.

use std::collections::BTreeSet;

use crate::support::*;

#[test]
fn a_guest_sees_no_environment_and_no_arguments() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let reply = host.get("/env");
        assert_eq!(reply.text(), "", "{guest}");
        assert_eq!(host.access(&reply).label(), "", "{guest}");
    }
}

#[test]
fn a_guest_sees_the_variables_that_it_was_given() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "--env COLOUR=blue --env EMPTY= --env SUM=1+1=2");
        let seen = host.get("/env").text();
        assert_eq!(
            seen, "env COLOUR=blue\nenv EMPTY=\nenv SUM=1+1=2\n",
            "{guest}"
        );
    }
}

#[test]
fn a_guest_without_a_directory_has_no_file_system() {
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let seen = host.get("/file").text();
        assert!(seen.starts_with("refused"), "{guest}: {seen}");
        assert!(!seen.contains("preopen"), "{guest}: {seen}");
    }
}

#[test]
fn a_directory_is_read_only_unless_it_says_rw() {
    for guest in BOTH_FAULTS {
        let granted = directory();
        let file = granted.path().join("new");
        let of = |mode: &str| format!("--dir {}::/data{mode}", granted.path().display());

        for mode in ["", ":ro"] {
            let host = TestHost::serve(guest, &of(mode));
            let said = host.get("/write?path=/data/new").text();
            assert!(said.starts_with("refused"), "{guest}{mode}: {said}");
            assert!(!file.exists(), "{guest}{mode}");
            assert!(
                host.get("/file").text().contains("preopen /data"),
                "{guest}"
            );
        }
        let host = TestHost::serve(guest, &of(":rw"));
        assert_eq!(
            host.get("/write?path=/data/new").text(),
            "written\n",
            "{guest}"
        );
        let written = std::fs::read_to_string(&file).expect("the file");
        assert_eq!(written, "written by a guest\n", "{guest}");
    }
}

#[test]
fn a_directory_without_a_name_for_the_guest_keeps_its_own() {
    for guest in BOTH_FAULTS {
        let granted = directory();
        let name = granted.path().display();
        let host = TestHost::serve(guest, &format!("--dir {name}:rw"));
        assert_eq!(
            host.get(&format!("/write?path={name}/new")).text(),
            "written\n",
            "{guest}"
        );
        let seen = host.get("/file").text();
        assert!(seen.contains(&format!("preopen {name}")), "{guest}: {seen}");
    }
}

#[test]
fn a_path_cannot_lead_out_of_a_granted_directory() {
    for guest in BOTH_FAULTS {
        let parent = directory();
        let granted = parent.path().join("granted");
        std::fs::create_dir(&granted).expect("made");
        std::os::unix::fs::symlink(parent.path(), granted.join("up")).expect("linked");
        let host = TestHost::serve(guest, &format!("--dir {}::/data:rw", granted.display()));
        for path in ["/data/../out", "/data/up/out", "/out"] {
            let said = host.get(&format!("/write?path={path}")).text();
            assert!(said.starts_with("refused"), "{guest} {path}: {said}");
        }
        assert!(!parent.path().join("out").exists(), "{guest}");
    }
}

#[test]
fn outbound_requests_sockets_and_names_are_refused_with_a_code_that_says_so() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    for guest in BOTH_FAULTS {
        let host = TestHost::serve(guest, "");
        let ask = |target: &str| {
            let reply = host.get(target);
            assert_eq!(reply.status(), 200, "{guest} {target}");
            reply.text()
        };
        assert_eq!(
            ask(&format!("/outbound?to={address}")),
            "http-request-denied\n",
            "{guest}"
        );
        assert!(ask("/socket").contains("access-denied"), "{guest}");
        let dns = ask("/dns");
        assert!(
            ["access-denied\n", "permanent-resolver-failure\n"].contains(&dns.as_str()),
            "{guest}: {dns}"
        );
    }
    listener.set_nonblocking(true).expect("set");
    assert!(listener.accept().is_err(), "somebody connected");
}

#[test]
fn a_bucket_in_two_stores_is_refused_and_both_are_named() {
    for (flags, told) in [
        (
            "--keyvalue carts --keyvalue carts=memory",
            "`--keyvalue carts=file` and `--keyvalue carts=memory`",
        ),
        (
            "--keyvalue carts=redis://:hunter2@one.example/1 --keyvalue carts=redis://two.example",
            "`--keyvalue carts=redis://one.example/1` and `--keyvalue carts=redis://two.example`",
        ),
    ] {
        for words in ["serve", "check", "dev"] {
            let ended = host(&format!("{words} {} {flags}", FAULTS.path().display()));
            assert_eq!(ended.code, Some(2), "{words} {flags}: {ended:?}");
            let said = ended.stderr_text();
            assert!(said.contains(told), "{words}: {said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
    // The same twice is the same.
    let flags = "--keyvalue carts=memory --keyvalue carts=memory";
    let host = TestHost::serve(FAULTS, flags);
    assert_eq!(host.get("/ok").status(), 200);
}

/// The flags under the heading of grants.
fn granting_flags(subcommand: &str) -> BTreeSet<String> {
    let help = host(&format!("{subcommand} --help")).stdout;
    let lines = help.iter().skip_while(|line| *line != "Grants:").skip(1);
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    let words = lines.filter_map(|line| line.trim().split(' ').next());
    let flags = words.filter(|word| word.starts_with("--"));
    flags.map(str::to_owned).collect()
}

#[test]
fn what_serve_grants_by_flags_dev_grants_too_and_the_readme_has_it_in_its_table() {
    let flags = granting_flags("serve");
    assert!(flags.len() >= 12, "{flags:?}");
    assert_eq!(granting_flags("dev"), flags);
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let readme = std::fs::read_to_string(readme).expect("read");
    let table = readme.split("\n## Grants\n").nth(1).expect("a section");
    let table: String = table
        .lines()
        .skip_while(|line| !line.starts_with("| interface"))
        .take_while(|line| line.starts_with('|'))
        .collect();
    for flag in flags {
        assert!(table.contains(&format!("`{flag} ")), "no `{flag}`");
    }
}
