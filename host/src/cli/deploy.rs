//! `host deploy`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use http::{Method, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use serde::Deserialize;

use super::remote::{Remote, RemoteArgs, short, size, target};
use super::{print, say, values};
use crate::admin::{HandlerView, LINES, Problem};
use crate::catalog::{HandlerName, Route, WarmUp};
use crate::components;
use crate::names::{self, legible};

/// Deploy a component to a running host.
///
/// It takes the place of the version before without a request that fails. What is not said here stays as it was; a
/// new handler is at `/NAME/`. A deploy that fails changes nothing.
#[derive(Debug, Args)]
pub(super) struct Deploy {
    /// The component's file.
    #[arg(value_name = "GUEST.WASM")]
    guest: PathBuf,
    /// The handler's name [default: that of the file].
    #[arg(long)]
    name: Option<HandlerName>,
    /// Who owns it from now on: a name of `[tenants]` in the file of the host. That stays for as long as it is deployed; a
    /// tenant's token says it by itself.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// A route, `[HOST]/PATH`, as in `example.com/shop/*`. Those that are given are all that it has.
    #[arg(long, value_name = "ROUTE", value_parser = route)]
    route: Vec<String>,
    /// The guest sees paths without what comes before the wildcard.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    strip_prefix: Option<bool>,
    /// Give the guest an environment variable. Those that are given are all that it has of its own.
    #[arg(long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<String>,
    /// Let it call another handler: a request to `http://NAME.handler.internal`. Those that are given are all that it may; an
    /// empty one, `--allow-call=`, takes away those that were.
    #[arg(long, value_name = "NAME", value_parser = callee)]
    allow_call: Vec<String>,
    /// Time to the response's headers.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    timeout: Option<String>,
    /// CPU time of one request.
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    cpu: Option<String>,
    /// Memory of one instance.
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    memory: Option<String>,
    /// A request that it must answer before it is put in place, and the status of its answer, as in `/ready` or
    /// `HEAD /ready=204`; an empty one takes away the one that was.
    #[arg(long, value_name = "PATH[=STATUS]", value_parser = warm_up)]
    warm_up: Option<String>,
    /// Let it reach for what the version before did not.
    #[arg(long)]
    allow_new_imports: bool,
    /// Deploy only if the handler is as it was when `host show` said this `etag`.
    #[arg(long, value_name = "ETAG")]
    if_match: Option<String>,
    #[command(flatten)]
    remote: RemoteArgs,
}

impl Deploy {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let remote = self.remote.remote()?;
        let component = components::read_whole(&self.guest)?;
        let stem = self.guest.file_stem().unwrap_or_default().to_string_lossy();
        let name = self
            .name
            .clone()
            .unwrap_or_else(|| HandlerName::like(&stem));
        let mut request = remote
            .request(
                Method::PUT,
                &target(&format!("/handlers/{name}"), &self.parameters()),
            )
            .header(header::CONTENT_TYPE, "application/wasm");
        if let Some(etag) = &self.if_match {
            request = request.header(header::IF_MATCH, etag);
        }
        if !remote.is_json() {
            request = request.header(header::ACCEPT, LINES);
        }
        let response = remote.send(request.body(Full::from(component))?).await?;
        let is_lines = response
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind == LINES);
        if is_lines {
            follow(&remote, response).await
        } else {
            remote.print_response(response, told).await
        }
    }

    fn parameters(&self) -> Vec<(&'static str, String)> {
        let many = |name: &'static str, values: &[String]| {
            values
                .iter()
                .map(move |value| (name, value.clone()))
                .collect()
        };
        let one = |name: &'static str, value: Option<String>| value.map(|value| (name, value));
        let mut parameters: Vec<_> = many("route", &self.route);
        parameters.extend::<Vec<_>>(many("env", &self.env));
        parameters.extend::<Vec<_>>(many("allow_call", &self.allow_call));
        parameters.extend(one(
            "strip_prefix",
            self.strip_prefix.map(|is_so| is_so.to_string()),
        ));
        parameters.extend(one("tenant", self.tenant.clone()));
        parameters.extend(one("timeout", self.timeout.clone()));
        parameters.extend(one("cpu", self.cpu.clone()));
        parameters.extend(one("memory", self.memory.clone()));
        parameters.extend(one("warm_up", self.warm_up.clone()));
        parameters.extend(one(
            "allow_new_imports",
            self.allow_new_imports.then(|| true.to_string()),
        ));
        parameters
    }
}

/// A line of the host's answer.
#[derive(Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
enum Line {
    Received { size: u64 },
    Compiled,
    Deployed { handler: Box<HandlerView> },
    Refused { problem: Problem },
}

/// Says each step as it is done, to a person who watches.
async fn follow(remote: &Remote, response: Response<Incoming>) -> anyhow::Result<ExitCode> {
    let watch = |step: &str| {
        if std::io::stderr().is_terminal() {
            say(step);
        }
    };
    let (mut body, mut text) = (response.into_body(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.context("reading what the host answers")?.into_data() else {
            continue;
        };
        text.extend_from_slice(&data);
        while let Some(end) = text.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = text.drain(..=end).collect();
            match serde_json::from_slice(&line).context("what the host answers")? {
                Line::Received { size: bytes } => watch(&format!("received, {}", size(bytes))),
                Line::Compiled => watch("compiled and started"),
                Line::Deployed { handler } => {
                    print(&told(*handler));
                    return Ok(ExitCode::SUCCESS);
                }
                Line::Refused { problem } => {
                    let json = serde_json::to_vec(&problem)?;
                    return remote.refused(StatusCode::UNPROCESSABLE_ENTITY, &json);
                }
            }
        }
    }
    bail!("the host left before it was done: `host list` shows what is deployed")
}

/// One line for a handler that was deployed, and one for each thing that it wants and may not have.
pub(super) fn told(handler: HandlerView) -> String {
    let routes: Vec<&str> = handler
        .routes
        .iter()
        .map(|route| route.route.as_str())
        .collect();
    let current = handler.versions.iter().find(|version| version.current);
    let number = current
        .map(|version| format!(" v{},", version.number))
        .unwrap_or_default();
    let deployed = format!(
        "`{}`{number} {} is at {}",
        handler.name,
        short(&handler.digest),
        routes.join(", ")
    );
    let wants = handler.not_granted.iter();
    std::iter::once(deployed)
        .chain(wants.map(|it| format!("it wants {}", legible(it))))
        .collect::<Vec<_>>()
        .join("\n")
}

fn route(text: &str) -> Result<String, String> {
    text.parse::<Route>().map_err(|error| error.to_string())?;
    let host = text.split('/').next().unwrap_or("");
    let is_likely = host.is_empty() || host.contains(['.', ':', '*']) || host == "localhost";
    if !is_likely {
        return Err(format!(
            "`{}` would be a host: write `/{text}` for a path, or `{host}./…` if there is a host of that name",
            names::short(host)
        ));
    }
    Ok(text.to_owned())
}

fn callee(text: &str) -> Result<String, String> {
    if !text.is_empty() {
        text.parse::<HandlerName>().map_err(|bad| bad.to_string())?;
    }
    Ok(text.to_owned())
}

fn warm_up(text: &str) -> Result<String, String> {
    if !text.is_empty() {
        text.parse::<WarmUp>()?;
    }
    Ok(text.to_owned())
}

fn variable(text: &str) -> Result<String, String> {
    values::environment(text)?;
    Ok(text.to_owned())
}

fn duration(text: &str) -> Result<String, String> {
    values::duration(text)?;
    Ok(text.to_owned())
}

fn memory(text: &str) -> Result<String, String> {
    values::memory(text)?;
    Ok(text.to_owned())
}
