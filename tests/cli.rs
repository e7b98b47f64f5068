//! The command line: where to listen, grants, the two logs, help, exit codes.

use std::net::TcpListener;
use std::process::Command;

use crate::support::program::{command, without_settings};
use crate::support::*;

/// Starts `serve` as it is typed, and gives the line that it prints when it is ready.
fn first_line(words: &str, environment: &[(&str, &str)]) -> (Program, String) {
    let mut command = command();
    command
        .arg("serve")
        .arg(HELLO.path())
        .arg("--cache")
        .arg(cache())
        .args(words.split_whitespace())
        .envs(environment.iter().copied());
    let mut program = Program::start(command);
    let line = eventually("the first line", || {
        assert_eq!(program.status(), None, "{:?}", program.stderr());
        program.stderr().into_iter().next()
    });
    (program, line)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

#[test]
fn one_line_says_that_it_serves_and_on_which_port() {
    let (program, line) = first_line("--addr 127.0.0.1:0", &[]);
    let address = line
        .strip_prefix("Serving HTTP on http://")
        .and_then(|rest| rest.strip_suffix('/'))
        .expect("the line");
    assert!(!address.ends_with(":0"), "{line}");
    let reply = Connection::to(address.parse().expect("an address")).get("/");
    assert_eq!(reply.text(), "Hello from WebAssembly!\n");
    assert_eq!(program.stderr().len(), 1);
}

#[test]
fn the_address_comes_from_the_flag_then_from_host_addr() {
    let (_program, line) = first_line("", &[("HOST_ADDR", "127.0.0.2:0")]);
    assert!(line.contains("http://127.0.0.2:"), "{line}");
    let (_program, line) = first_line("--addr [::1]:0", &[("HOST_ADDR", "127.0.0.2:0")]);
    assert!(line.contains("http://[::1]:"), "{line}");
}

#[test]
fn port_is_the_port_of_the_default_address() {
    let port = free_port().to_string();
    let (_program, line) = first_line("", &[("PORT", &port)]);
    assert_eq!(line, format!("Serving HTTP on http://127.0.0.1:{port}/"));
}

#[test]
fn an_address_without_a_host_is_every_address() {
    let (_program, line) = first_line("--addr :0", &[]);
    assert!(line.contains("http://0.0.0.0:"), "{line}");
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address");
    let ended = serve(&format!("--addr {address}"));
    assert_eq!(ended.code, Some(1));
    assert!(
        ended.stderr_text().contains(&address.to_string()),
        "{ended:?}"
    );
    assert!(ended.stderr_text().contains("in use"), "{ended:?}");
    assert_eq!(ended.stdout_text(), "");
}

#[test]
fn an_address_that_is_not_ours_is_refused_by_name() {
    let ended = serve("--addr 192.0.2.1:8080"); // RFC 5737: nobody's
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr_text().contains("192.0.2.1:8080"), "{ended:?}");
    assert!(!ended.stderr_text().contains("Serving"), "{ended:?}");
}

#[test]
fn a_port_that_needs_root_is_refused_by_name() {
    let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse::<u16>().ok())
        .unwrap_or(1024);
    if first_free < 2 {
        skipped(
            "a port that needs root: here none does: set `net.ipv4.ip_unprivileged_port_start` to 1024",
        );
        return;
    }
    let mut command = if rustix::process::geteuid().is_root() {
        // Without the right to such ports, root is as anybody.
        const WITHOUT: [&str; 2] = ["--bounding-set", "-net_bind_service"];
        let tried = Command::new("setpriv").args(WITHOUT).arg("true").status();
        if !tried.is_ok_and(|tried| tried.success()) {
            skipped(
                "a port that needs root: `setpriv` may not take the right to it from us: `apt-get install util-linux`",
            );
            return;
        }
        let mut command = Command::new("setpriv");
        command.args(WITHOUT).arg(env!("CARGO_BIN_EXE_host"));
        without_settings(command)
    } else {
        command()
    };
    command.args(["serve", "--addr", "127.0.0.1:1", "--cache"]);
    command.arg(cache()).arg(HELLO.path());
    let ended = Program::start(command).ended();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert_eq!(ended.stderr.len(), 1, "one message: {ended:?}");
    for part in ["127.0.0.1:1", "1024"] {
        assert!(ended.stderr_text().contains(part), "{ended:?}");
    }
}

fn serve(flags: &str) -> Ended {
    let guest = HELLO.path();
    host(&format!(
        "serve {} --cache {} {flags}",
        guest.display(),
        cache().display()
    ))
}

#[test]
fn a_bad_value_of_a_flag_names_the_flag_and_says_what_to_write() {
    for (flags, hint) in [
        ("--addr nonsense", "127.0.0.1:8080"),
        ("--timeout soon", "30s"),
        ("--timeout 0s", "1ms"),
        ("--cpu 5parsecs", "500ms"),
        ("--memory 1MB", "128MiB"),
        ("--memory 1K", "64KiB"),
        ("--max-body lots", "64KiB"),
        ("--max-concurrent-requests 0", "at least 1"),
        ("--max-concurrent-connections none", "from 1 to"),
        ("--max-instance-reuse-count 0", "at least 1"),
        ("--idle-instance-timeout x", "500ms"),
        ("--drain-timeout x", "500ms"),
        ("--access-log xml", "combined"),
        ("--env NOVALUE", "NOVALUE=VALUE"),
        ("--config novalue", "NAME=VALUE"),
        ("--dir /tmp::", "HOST::GUEST"),
        ("--dir /no/such/directory::/data", "`/no/such/directory`"),
    ] {
        let ended = serve(flags);
        let said = ended.stderr_text();
        assert_eq!(ended.code, Some(2), "{flags}: {said}");
        assert!(said.contains(hint), "{flags}: {said}");
        let flag = flags.split(' ').next().unwrap_or_default();
        assert!(said.contains(flag), "{flags}: {said}");
        assert_eq!(ended.stdout_text(), "", "{flags}");
    }
}

#[test]
fn what_the_environment_says_is_checked_like_a_flag() {
    for (name, value) in [("HOST_ADDR", "nonsense"), ("PORT", "eighty")] {
        let words = format!("serve {}", HELLO.path().display());
        let ended = host_with_env(&words, &[(name, value)]);
        assert_eq!(ended.code, Some(2), "{name}");
        assert!(ended.stderr_text().contains(value), "{name}: {ended:?}");
    }
}

#[test]
fn usage_is_exit_code_2_and_help_is_0() {
    for words in [
        "",
        "serve",
        "serve a.wasm b.wasm",
        "fly",
        "serve --fly",
        "inspect",
    ] {
        let ended = host(words);
        assert_eq!(ended.code, Some(2), "`{words}`");
        assert_eq!(ended.stdout_text(), "", "`{words}`");
    }
    for words in ["--help", "-h", "--version", "serve --help", "help serve"] {
        let ended = host(words);
        assert_eq!(ended.code, Some(0), "`{words}`");
        assert_eq!(ended.stderr_text(), "", "`{words}`");
    }
}

/// The names under "Commands:".
fn subcommands() -> Vec<String> {
    let help = host("--help").stdout;
    let commands = help.iter().skip_while(|line| *line != "Commands:").skip(1);
    commands
        .take_while(|line| !line.is_empty())
        .filter(|line| !line.starts_with("   ")) // a description that goes on
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_fits_80_columns_however_wide_the_terminal() {
    let subcommands = subcommands();
    assert!(subcommands.contains(&"serve".to_owned()), "{subcommands:?}");
    for subcommand in subcommands {
        for words in [format!("{subcommand} --help"), format!("{subcommand} -h")] {
            let help = host_with_env(&words, &[("COLUMNS", "300")]);
            assert_eq!(help.code, Some(0), "{words}");
            for line in &help.stdout {
                assert!(line.chars().count() <= 80, "{words}: {line}");
            }
        }
    }
}

#[test]
fn each_subcommand_says_what_it_is_for() {
    for subcommand in subcommands() {
        let help = host(&format!("help {subcommand}")).stdout;
        assert!(help[0].contains(' '), "{subcommand}: {help:?}");
    }
}

#[test]
fn completions_are_written_for_each_shell() {
    for shell in ["bash", "zsh", "fish"] {
        let ended = host(&format!("completions {shell}"));
        assert_eq!(ended.code, Some(0), "{shell}");
        let script = ended.stdout_text();
        for word in ["serve", "max-concurrent-requests"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    assert_eq!(host("completions cmd").code, Some(2));
}

#[test]
fn the_manual_names_each_subcommand_and_flag() {
    let manual = host("manual");
    assert_eq!(manual.code, Some(0));
    let page = manual.stdout_text().replace('\\', "");
    assert!(page.contains(".TH host"));
    for subcommand in subcommands() {
        assert!(page.contains(&subcommand), "{subcommand}");
    }
    assert!(page.contains("--max-concurrent-requests"));
    assert!(!page.contains("__compile"));
}
