//! What can be asked for at the operator's door. One table: requests are routed by it and the OpenAPI document is made
//! of it, so that what is documented is what there is.

use http::{Method, StatusCode};

use super::problem::Problem;
use crate::names::most_alike;

/// Something that can be asked for.
pub(super) struct Operation {
    pub(super) call: Call,
    pub(super) method: Method,
    /// `{name}` stands for a handler's name.
    pub(super) path: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) parameters: &'static [Parameter],
    pub(super) headers: &'static [&'static str],
    /// The request's body, by its content type.
    pub(super) body: Option<&'static str>,
    /// Statuses of success, with what the body is: a name in the document's schemas.
    pub(super) answers: &'static [(u16, &'static str)],
    pub(super) problems: &'static [u16],
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    List,
    Show,
    Deploy,
    Undeploy,
    Rollback,
    Audit,
    Health,
    Ready,
    HandlerReady,
    Metrics,
    OpenApi,
}

impl Call {
    /// Whether it needs no token, and nothing is told by it.
    pub(super) fn is_everybodys(self) -> bool {
        matches!(self, Self::Health | Self::Ready)
    }

    /// Whether it is answered while the host starts.
    pub(super) fn is_early(self) -> bool {
        matches!(self, Self::Metrics | Self::OpenApi) || self.is_everybodys()
    }
}

/// A parameter of a query.
pub(super) struct Parameter {
    pub(super) name: &'static str,
    pub(super) description: &'static str,
    pub(super) may_repeat: bool,
}

const fn once(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        description,
        may_repeat: false,
    }
}

const fn often(name: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name,
        description,
        may_repeat: true,
    }
}

/// Bytes of a component.
const WASM: &str = "application/wasm";

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        call: Call::List,
        method: Method::GET,
        path: "/handlers",
        id: "listHandlers",
        summary: "Every handler, by name; with a tenant's token its own, here and everywhere",
        parameters: &[],
        headers: &[],
        body: None,
        answers: &[(200, "Handlers")],
        problems: &[],
    },
    Operation {
        call: Call::Show,
        method: Method::GET,
        path: "/handlers/{name}",
        id: "showHandler",
        summary: "One handler, with its versions; its `etag` names its state",
        parameters: &[],
        headers: &[],
        body: None,
        answers: &[(200, "Handler")],
        problems: &[400, 404],
    },
    Operation {
        call: Call::Deploy,
        method: Method::PUT,
        path: "/handlers/{name}",
        id: "deployHandler",
        summary: "Deploys the component in the body as a new version, unless nothing differs. What is not given stays as it was; a new handler gets `/NAME/*`. With \
                  `accept: application/x-ndjson` the answer is a line for each step, the last one with the outcome",
        parameters: &[
            often(
                "route",
                "A route, `[HOST]/PATH`. Those that are given are all that the handler has",
            ),
            once(
                "strip_prefix",
                "`true`: the guest sees paths without what comes before the wildcard",
            ),
            often(
                "env",
                "An environment variable, `NAME=VALUE`. Those that are given are all that the guest has of its own",
            ),
            once("timeout", "Time to the response's headers, as in `30s`"),
            once("cpu", "CPU time of one request, as in `500ms`"),
            once("memory", "Memory of one instance, as in `64MiB`"),
            often(
                "allow_call",
                "A handler that it may call, by name. Those that are given are all; an empty one takes away those that were",
            ),
            once(
                "warm_up",
                "A request that it must answer before it is put in place, and the status of its answer: `[METHOD ]PATH[=STATUS]`, \
                 GET and 200 if they are left out. An empty one takes away the one that was",
            ),
            once(
                "tenant",
                "Who owns the handler from now on, a name of `[tenants]`; of a new one only. A tenant's token says it by itself",
            ),
            once(
                "allow_new_imports",
                "`true`: it may want what the version before did not",
            ),
        ],
        headers: &["if-match", "if-none-match"],
        body: Some(WASM),
        answers: &[(200, "Handler"), (201, "Handler")],
        problems: &[400, 403, 408, 409, 412, 413, 422, 500, 503, 507],
    },
    Operation {
        call: Call::Undeploy,
        method: Method::DELETE,
        path: "/handlers/{name}",
        id: "undeployHandler",
        summary: "Takes a handler away, with all its versions",
        parameters: &[],
        headers: &["if-match"],
        body: None,
        answers: &[(200, "Gone")],
        problems: &[400, 404, 409, 412, 500, 507],
    },
    Operation {
        call: Call::Rollback,
        method: Method::POST,
        path: "/handlers/{name}/rollback",
        id: "rollbackHandler",
        summary: "Takes a version again that was deployed before, with its routes and settings",
        parameters: &[once(
            "to",
            "Its number, as in `v3`, or how its digest begins; if it is left out, the one that served before the current \
             was deployed",
        )],
        headers: &["if-match"],
        body: None,
        answers: &[(200, "Handler")],
        problems: &[400, 403, 404, 409, 412, 422, 500, 507],
    },
    Operation {
        call: Call::Audit,
        method: Method::GET,
        path: "/audit",
        id: "audit",
        summary: "Changes that were made: who, what, from which version to which; the last one first",
        parameters: &[
            once("last", "How many, 100 if it is left out and 1,000 at most"),
            once(
                "before",
                "Those from before this time, as in `at` of the last line of another answer",
            ),
        ],
        headers: &[],
        body: None,
        answers: &[(200, "Audit")],
        problems: &[400, 500],
    },
    Operation {
        call: Call::Health,
        method: Method::GET,
        path: "/livez",
        id: "health",
        summary: "Whether the host is there; needs no token. `/healthz` is the same",
        parameters: &[],
        headers: &[],
        body: None,
        answers: &[(200, "Health")],
        problems: &[],
    },
    Operation {
        call: Call::Health,
        method: Method::GET,
        path: "/healthz",
        id: "healthz",
        summary: "The same as `/livez`",
        parameters: &[],
        headers: &[],
        body: None,
        answers: &[(200, "Health")],
        problems: &[],
    },
    Operation {
        call: Call::Ready,
        method: Method::GET,
        path: "/readyz",
        id: "ready",
        summary: "Whether the host should get requests: not while it starts or stops, nor while a handler that is `required` \
                  cannot be served; needs no token",
        parameters: &[once(
            "verbose",
            "Why not, if it is given, whatever its value: handlers are named to who may see them",
        )],
        headers: &[],
        body: None,
        answers: &[(200, "Ready"), (503, "Ready")],
        problems: &[400],
    },
    Operation {
        call: Call::HandlerReady,
        method: Method::GET,
        path: "/readyz/{name}",
        id: "handlerReady",
        summary: "Whether one handler is served: not while it is quarantined or cannot be loaded",
        parameters: &[],
        headers: &[],
        body: None,
        answers: &[(200, "Ready"), (503, "Ready")],
        problems: &[400, 404],
    },
    Operation {
        call: Call::Metrics,
        method: Method::GET,
        path: "/metrics",
        id: "metrics",
        summary: "Metrics in OpenMetrics form, or in Prometheus' older one for who accepts `text/plain` only; with a \
                  tenant's token its own",
        parameters: &[],
        headers: &["accept"],
        body: None,
        answers: &[(200, "Metrics")],
        problems: &[],
    },
    Operation {
        call: Call::OpenApi,
        method: Method::GET,
        path: "/openapi.json",
        id: "openapi",
        summary: "This document",
        parameters: &[],
        headers: &[],
        body: None,
        answers: &[(200, "OpenApi")],
        problems: &[],
    },
];

/// What a request asks for, and the text in the place of `{name}`.
pub(super) fn find<'a>(
    method: &Method,
    path: &'a str,
) -> Result<(&'static Operation, &'a str), Problem> {
    let on_path = || {
        OPERATIONS
            .iter()
            .filter_map(|operation| Some((operation, matches(operation.path, path)?)))
    };
    if let Some(found) = on_path().find(|(operation, _)| operation.method == method) {
        return Ok(found);
    }
    let allowed: Vec<&str> = on_path()
        .map(|(operation, _)| operation.method.as_str())
        .collect();
    Err(if allowed.is_empty() {
        Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-path",
            "there is nothing at this path: `/openapi.json` says what there is",
        )
    } else {
        Problem::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method",
            format!("this path takes {}", allowed.join(", ")),
        )
    })
}

/// The text in the place of `{name}`: empty if there is no such place.
fn matches<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let mut name = "";
    let (mut wanted, mut there) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), there.next()) {
            (None, None) => return Some(name),
            (Some("{name}"), Some(text)) => name = text,
            (Some(wanted), Some(text)) if wanted == text => {}
            _ => return None,
        }
    }
}

impl Operation {
    /// The parameters of a query, in their order.
    pub(super) fn parameters(
        &self,
        query: &str,
    ) -> Result<Vec<(&'static str, String)>, Vec<String>> {
        let (mut found, mut mistakes) = (Vec::new(), Vec::new());
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let Some(parameter) = self
                .parameters
                .iter()
                .find(|parameter| parameter.name == name)
            else {
                mistakes.push(self.unknown(&name));
                continue;
            };
            let is_there = found.iter().any(|(name, _)| *name == parameter.name);
            if is_there && !parameter.may_repeat {
                mistakes.push(format!(
                    "`{}` is given twice: leave one out",
                    parameter.name
                ));
            }
            found.push((parameter.name, value.into_owned()));
        }
        if mistakes.is_empty() {
            Ok(found)
        } else {
            Err(mistakes)
        }
    }

    fn unknown(&self, name: &str) -> String {
        let known = self
            .parameters
            .iter()
            .map(|parameter| parameter.name.to_owned());
        let shown = crate::names::short(name).escape_debug().to_string();
        match most_alike(name, known, 0.5) {
            Some(nearest) => format!("there is no parameter `{shown}`: did you mean `{nearest}`?"),
            None => format!("there is no parameter `{shown}`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_routed_by_the_table() {
        for (method, path, expected) in [
            (Method::GET, "/handlers", Ok((Call::List, ""))),
            (Method::PUT, "/handlers/shop", Ok((Call::Deploy, "shop"))),
            (
                Method::POST,
                "/handlers/shop/rollback",
                Ok((Call::Rollback, "shop")),
            ),
            (Method::DELETE, "/handlers/", Ok((Call::Undeploy, ""))),
            (Method::DELETE, "/handlers", Err(405)),
            (Method::GET, "/handlers/../shop", Err(404)),
            (Method::GET, "/", Err(404)),
        ] {
            let found = find(&method, path);
            let found = found
                .map(|(operation, name)| (operation.call, name))
                .map_err(|problem| problem.status);
            assert_eq!(found, expected, "{method} {path}");
        }
    }

    #[test]
    fn every_mistake_of_a_query_is_told() {
        let (operation, _) = find(&Method::PUT, "/handlers/shop").expect("there");
        let mistakes = operation
            .parameters("rout=/x&cpu=1s&cpu=2s&env=A%3D1&env=B%3D%26")
            .expect_err("mistakes");
        assert_eq!(mistakes.len(), 2, "{mistakes:?}");
        assert!(mistakes[0].contains("did you mean `route`"), "{mistakes:?}");
        let good = operation.parameters("env=A%3D1&env=B%3D%26").expect("good");
        assert_eq!(good[1], ("env", "B=&".to_owned()));
    }
}
