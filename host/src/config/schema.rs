//! The schema of the file, for editors: JSON Schema, draft 2020-12.

use serde_json::{Map, Value, json};

use super::keys::{HOST, Key, MANIFEST, Shape, Takes, Unsaid};

/// The schema of a host's file.
#[must_use]
pub fn schema() -> String {
    of(&HOST, "The configuration of a host")
}

/// The schema of a manifest, which lies beside a component in a directory that is served.
#[must_use]
pub fn manifest_schema() -> String {
    of(&MANIFEST, "The manifest of a handler")
}

fn of(root: &'static Shape, title: &str) -> String {
    let mut schema = table(root);
    let inner = root.family().into_iter().skip(1);
    let definitions: Map<_, _> = inner
        .map(|shape| (shape.name.to_owned(), table(shape)))
        .collect();
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!(title);
    schema["$defs"] = definitions.into();
    format!("{schema:#}")
}

fn table(shape: &'static Shape) -> Value {
    let keys: Map<_, _> = shape
        .keys
        .iter()
        .map(|key| (key.name.to_owned(), described(key)))
        .collect();
    let required: Vec<_> = shape
        .keys
        .iter()
        .filter(|key| matches!(key.unsaid, Unsaid::Missing(_)))
        .map(|key| key.name)
        .collect();
    let mut table = json!({
        "type": "object",
        "description": shape.about,
        "properties": keys,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        table["required"] = json!(required);
    }
    table
}

fn described(key: &'static Key) -> Value {
    let mut value = taken(&key.takes);
    value["description"] = json!(key.about);
    if let Unsaid::Default(default) = key.unsaid {
        value["default"] = default();
    }
    value
}

fn taken(takes: &'static Takes) -> Value {
    match takes {
        Takes::Text(example) => json!({ "type": "string", "examples": [example] }),
        Takes::Flag => json!({ "type": "boolean" }),
        // A text too: it can be a variable's.
        Takes::Count => json!({ "type": ["integer", "string"], "minimum": 1 }),
        Takes::Status(least, most) => {
            json!({ "type": ["integer", "string"], "minimum": least, "maximum": most })
        }
        Takes::Duration => {
            json!({ "type": ["string", "integer"], "minimum": 1, "examples": ["30s", "500ms", "2m"] })
        }
        Takes::Size => {
            json!({ "type": ["string", "integer"], "minimum": 0, "examples": ["128MiB", "64KiB", "1GiB"] })
        }
        Takes::Choice(words) => json!({ "enum": words }),
        Takes::Table(shape) => json!({ "$ref": format!("#/$defs/{}", shape.name) }),
        Takes::Named(inner) => json!({ "type": "object", "additionalProperties": taken(inner) }),
        Takes::List(inner) => json!({ "type": "array", "items": taken(inner) }),
        Takes::Either(one, other) => json!({ "anyOf": [taken(one), taken(other)] }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key of every table of a schema, as `table.key`.
    fn keys(schema: &str, root: &str) -> Vec<String> {
        let schema: Value = serde_json::from_str(schema).expect("JSON");
        let of = |name: &str, table: &Value| {
            let properties = table["properties"].as_object().expect("a table");
            properties
                .keys()
                .map(|key| format!("{name}.{key}"))
                .collect::<Vec<_>>()
        };
        let mut keys = of(root, &schema);
        for (name, table) in schema["$defs"].as_object().expect("tables") {
            keys.extend(of(name, table));
        }
        keys.sort();
        keys
    }

    #[test]
    fn every_key_of_the_example_is_in_the_schema_and_the_other_way_round() {
        // The reader refuses a key that the table has not; so what is left is that each is used.
        let used = super::super::tests::keys_used_by_the_example();
        assert_eq!(keys(&schema(), "host"), used);
    }

    #[test]
    fn a_manifest_has_the_keys_of_a_handler() {
        let of = |schema: &str, root: &str, table: &str| -> Vec<String> {
            let prefix = format!("{table}.");
            keys(schema, root)
                .iter()
                .filter_map(|key| key.strip_prefix(&prefix).map(str::to_owned))
                .collect()
        };
        assert_eq!(
            of(&manifest_schema(), "manifest", "manifest"),
            of(&schema(), "host", "handler")
        );
    }

    #[test]
    fn editors_get_a_default_a_description_and_the_words() {
        let schema: Value = serde_json::from_str(&schema()).expect("JSON");
        let listen = &schema["$defs"]["listen"]["properties"];
        assert_eq!(
            listen["access_log"]["enum"],
            json!(["combined", "json", "off"])
        );
        assert_eq!(listen["access_log"]["default"], "combined");
        assert_eq!(listen["idle_timeout"]["default"], "1m");
        assert_eq!(
            schema["$defs"]["limits"]["properties"]["memory"]["default"],
            "128MiB"
        );
        assert_eq!(
            schema["$defs"]["handler"]["required"],
            json!(["source", "routes"])
        );
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
    }
}
