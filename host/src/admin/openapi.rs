//! The document that says what can be asked for here, made of the table that requests are routed by.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::LINES;
use super::routes::{Call, OPERATIONS, Operation, Parameter};
use crate::observe::metrics::Form;

/// OpenAPI 3.1.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method.as_str().to_ascii_lowercase()] = describe(operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": { "title": "host, the admin door", "version": env!("CARGO_PKG_VERSION") },
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
        "security": [{}, { "token": [] }],
    })
}

fn describe(operation: &Operation) -> Value {
    let in_path = operation.path.contains("{name}").then(|| {
        json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let in_headers = operation
        .headers
        .iter()
        .map(|name| json!({ "name": name, "in": "header", "schema": { "type": "string" } }));
    let in_query = operation.parameters.iter().map(in_query);
    let parameters: Vec<Value> = in_path
        .into_iter()
        .chain(in_query)
        .chain(in_headers)
        .collect();
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "parameters": parameters,
        "responses": responses(operation),
    });
    if let Some(kind) = operation.body {
        described["requestBody"] = json!({ "required": true, "content": { kind: {} } });
    }
    described
}

fn in_query(parameter: &Parameter) -> Value {
    let text = json!({ "type": "string" });
    let schema = if parameter.may_repeat {
        json!({ "type": "array", "items": text })
    } else {
        text
    };
    json!({ "name": parameter.name, "in": "query", "description": parameter.description, "schema": schema })
}

fn responses(operation: &Operation) -> Value {
    let mut responses = Map::new();
    for (status, schema) in operation.answers {
        let mut response = json!({ "description": reason(*status) });
        response["content"] = json!({ "application/json": { "schema": reference(schema) } });
        if operation.call == Call::Deploy {
            response["content"][LINES] = json!({});
        }
        if operation.call == Call::Metrics {
            let forms = [Form::OpenMetrics, Form::Classic];
            let content = forms.map(|form| (form.content_type().to_owned(), json!({})));
            response["content"] = Map::from_iter(content).into();
        }
        responses.insert(status.to_string(), response);
    }
    let token = (!operation.call.is_everybodys()).then_some(401);
    for status in operation.problems.iter().copied().chain(token) {
        let content = json!({ "application/problem+json": { "schema": reference("Problem") } });
        responses.insert(
            status.to_string(),
            json!({ "description": reason(status), "content": content }),
        );
    }
    responses.into()
}

fn reason(status: u16) -> &'static str {
    let status = StatusCode::from_u16(status).ok();
    status
        .and_then(|status| status.canonical_reason())
        .unwrap_or_default()
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn schemas() -> Value {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "integer" });
    let is_so = || json!({ "type": "boolean" });
    let list = |of: Value| json!({ "type": "array", "items": of });
    let object = |properties: Value| json!({ "type": "object", "properties": properties });
    let routes = || list(object(json!({ "route": text(), "strip_prefix": is_so() })));
    let settings = || {
        object(json!({
            "env": list(text()), "config": list(text()), "timeout": text(), "cpu": text(), "memory": number(),
            "calls": list(text()), "outbound": list(text()), "warm_up": text(),
        }))
    };
    json!({
        "Handlers": object(json!({ "handlers": list(reference("Handler")) })),
        "Handler": object(json!({
            "name": text(),
            "tenant": text(),
            "routes": routes(),
            "digest": text(),
            "serving": is_so(),
            "starting": is_so(),
            "rolled_back": is_so(),
            "etag": text(),
            "file": text(),
            "reuse": object(json!({
                "at_once": number(), "at_once_granted": number(), "in_all": number(), "in_all_granted": number(),
            })),
            "settings": settings(),
            "grants": object(json!({
                "env": list(text()), "config": list(text()),
                "dirs": list(object(json!({ "guest": text(), "writable": is_so() }))),
                "scratch": number(), "sockets": list(text()), "calls": list(text()),
                "outbound": list(text()), "networks": list(text()),
                "keyvalue": list(object(json!({ "name": text(), "store": text() }))),
                "blobstore": list(text()), "coarse_clocks": text(),
            })),
            "not_granted": list(text()),
            "versions": list(object(json!({
                "number": number(), "digest": text(), "size": number(), "deployed_at": text(),
                "by": text(), "wants": list(text()), "routes": routes(), "settings": settings(),
                "follows": number(), "differs": list(text()), "current": is_so(),
            }))),
        })),
        "Gone": object(json!({ "name": text() })),
        "Audit": object(json!({
            "changes": list(object(json!({
                "at": text(), "who": text(), "action": { "enum": ["deploy", "rollback", "undeploy"] },
                "handler": text(), "tenant": text(), "from": text(), "from_version": number(), "to": text(), "to_version": number(),
            }))),
        })),
        "Health": object(json!({ "status": text() })),
        "Ready": object(json!({
            "status": { "enum": ["ready", "not ready"] }, "phase": { "enum": ["starting", "serving", "draining"] },
            "handlers": list(object(json!({ "name": text(), "why": text() }))),
        })),
        "OpenApi": { "type": "object" },
        "Problem": object(json!({
            "type": text(), "title": text(), "status": number(), "detail": text(), "mistakes": list(text()),
        })),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{
        BucketView, DirectoryView, GrantsView, HandlerView, ReuseView, RouteView, SettingsView,
        VersionView,
    };

    #[test]
    fn every_operation_is_in_the_document_with_schemas_that_are_there() {
        let document = document();
        for operation in OPERATIONS {
            let method = operation.method.as_str().to_ascii_lowercase();
            assert_eq!(
                document["paths"][operation.path][method]["operationId"],
                operation.id
            );
        }
        let text = document.to_string();
        for named in text.split("#/components/schemas/").skip(1) {
            let name = named.split('"').next().expect("a name");
            assert!(
                document["components"]["schemas"][name].is_object(),
                "{name}"
            );
        }
    }

    #[test]
    fn a_handler_is_shown_with_nothing_that_the_document_does_not_say() {
        let routes = || {
            vec![RouteView {
                route: String::new(),
                strip_prefix: false,
            }]
        };
        let settings = || SettingsView {
            env: Vec::new(),
            config: vec![String::new()],
            timeout: Some(String::new()),
            cpu: Some(String::new()),
            memory: Some(1),
            calls: vec![String::new()],
            outbound: vec![String::new()],
            warm_up: Some(String::new()),
        };
        let shown = HandlerView {
            name: String::new(),
            tenant: Some(String::new()),
            routes: routes(),
            digest: String::new(),
            serving: true,
            starting: true,
            rolled_back: false,
            etag: Some(String::new()),
            file: Some(String::new()),
            reuse: Some(ReuseView {
                at_once: 1,
                at_once_granted: 2,
                in_all: 3,
                in_all_granted: 4,
            }),
            settings: Some(settings()),
            grants: Some(GrantsView {
                env: vec![String::new()],
                config: vec![String::new()],
                dirs: vec![DirectoryView {
                    guest: String::new(),
                    writable: true,
                }],
                scratch: Some(1),
                sockets: vec![String::new()],
                calls: vec![String::new()],
                outbound: vec![String::new()],
                networks: vec![String::new()],
                keyvalue: vec![BucketView {
                    name: String::new(),
                    store: String::new(),
                }],
                blobstore: vec![String::new()],
                coarse_clocks: Some(String::new()),
            }),
            not_granted: vec![String::new()],
            versions: vec![VersionView {
                number: 1,
                digest: String::new(),
                size: 1,
                deployed_at: String::new(),
                by: String::new(),
                wants: Vec::new(),
                routes: routes(),
                settings: settings(),
                follows: Some(1),
                differs: Vec::new(),
                current: true,
            }],
        };
        let shown = serde_json::to_value(shown).expect("shown");
        said(&shown, &document()["components"]["schemas"]["Handler"]);
    }

    /// Every name in the value is in the schema.
    fn said(value: &Value, schema: &Value) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    assert!(schema["properties"][name].is_object(), "{name}");
                    said(value, &schema["properties"][name]);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| said(item, &schema["items"])),
            _ => {}
        }
    }
}
