//! What it is told: `wasi:config` by each of its names, and the environment.

use crate::asked::Asked;
use bindings::wasi::config0_2_0_draft as draft;
use bindings::wasi::config0_2_0_draft_2024_09_27 as spin;
use bindings::wasi::config0_2_0_rc_1 as candidate;

mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../wit/deps/wasi-config-0.2.0-rc.1.wit",
            "../../wit/deps/wasi-config-0.2.0-draft.wit",
            "../../wit/deps/wasi-config-0.2.0-draft-2024-09-27.wit",
        ],
        inline: "package probe:guest; world imports {
            import wasi:config/store@0.2.0-rc.1;
            import wasi:config/store@0.2.0-draft;
            import wasi:config/store@0.2.0-draft-2024-09-27;
            import wasi:config/runtime@0.2.0-draft;
        }",
        generate_all,
    });
}

pub(crate) fn config(asked: &Asked) -> String {
    let key = asked.text("key");
    let value = match asked.text("by") {
        "draft" => draft::store::get(key).map_err(drop),
        "spin" => spin::store::get(key).map_err(drop),
        "runtime" => draft::runtime::get(key).map_err(drop),
        _ => candidate::store::get(key).map_err(drop),
    };
    match value {
        Ok(Some(value)) => format!("{value}\n"),
        Ok(None) => "none\n".to_owned(),
        Err(()) => "an error\n".to_owned(),
    }
}

pub(crate) fn all(asked: &Asked) -> String {
    let all = match asked.text("by") {
        "draft" => draft::store::get_all().map_err(drop),
        "spin" => spin::store::get_all().map_err(drop),
        "runtime" => draft::runtime::get_all().map_err(drop),
        _ => candidate::store::get_all().map_err(drop),
    };
    let all = all.unwrap_or_default().into_iter();
    all.map(|(key, value)| format!("{key}={value}\n")).collect()
}

pub(crate) fn env(asked: &Asked) -> String {
    match std::env::var(asked.text("name")) {
        Ok(value) => format!("{value}\n"),
        Err(_) => "none\n".to_owned(),
    }
}
