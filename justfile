# Short names for plain commands; `just` is never needed.

# What there is to do.
default:
    @just --list

# Build a guest, serve it on http://127.0.0.1:8080, and reload on save.
dev guest="guests/hello" *flags:
    cargo run --release -- dev {{guest}} {{flags}}

# Every test; builds the guests that it needs.
test *flags:
    cargo test {{flags}}

# The host beside hyper alone and the servers that are installed, and their chart in README; takes minutes.
# `just bench --only neighbours`, `just bench --only soak --minutes 2` and the like measure one thing;
# `just bench --only languages --javascript js.wasm --python py.wasm` measures components that you made.
bench *flags:
    cargo bench --bench serve -- --svg host/BENCHMARKS.svg {{flags}}

fmt:
    cargo fmt --all

lint:
    cargo clippy --locked --all-targets -- -D warnings

# The crates' documentation; ARCHITECTURE.md is its first page.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps -p host

# Licences, sources, advisories: `cargo install --locked cargo-deny` first.
deny:
    cargo deny --workspace check

# All of it, as it must hold before a change is merged.
ci:
    .ci/run
