//! What a request asks for, from text to typed values: every mistake is found before anything is done.

use http::{HeaderMap, header};
use jiff::Timestamp;

use super::problem::Problem;
use super::routes::Operation;
use crate::catalog::{Ask, BadName, Expected, HandlerName, Route, WarmUp};
use crate::limits;
use crate::values;

/// The name in a path.
pub(super) fn name(text: &str) -> Result<HandlerName, Problem> {
    text.parse::<HandlerName>()
        .map_err(|bad| Problem::mistakes(vec![bad.to_string()]))
}

/// What a deploy asks for.
pub(super) fn ask(operation: &Operation, query: &str) -> Result<Ask, Problem> {
    let parameters = operation.parameters(query).map_err(Problem::mistakes)?;
    let (mut ask, mut mistakes) = (Ask::default(), Vec::new());
    for (name, value) in parameters {
        let taken = match name {
            "tenant" => {
                ask.tenant = Some(value);
                Ok(())
            }
            "route" => value
                .parse::<Route>()
                .map(|route| ask.routes.push(route))
                .map_err(|error| error.to_string()),
            "env" => {
                variable(&value).map(|(name, value)| ask.environment.push((name, value.into())))
            }
            "strip_prefix" => claim(&value).map(|is_so| ask.strip_prefix = Some(is_so)),
            "timeout" => values::duration(&value).map(|time| ask.timeout = Some(time)),
            "cpu" => values::duration(&value).map(|time| ask.cpu = Some(time)),
            "memory" => values::memory(&value).map(|bytes| ask.memory = Some(bytes)),
            "allow_call" => {
                callee(&value).map(|name| ask.calls.get_or_insert_default().extend(name))
            }
            "warm_up" => warm_up(&value).map(|request| ask.warm_up = Some(request)),
            "allow_new_imports" => claim(&value).map(|is_so| ask.allow_new_imports = is_so),
            _ => Ok(()),
        };
        if let Err(mistake) = taken {
            mistakes.push(format!("`{name}`: {mistake}"));
        }
    }
    if mistakes.is_empty() {
        Ok(ask)
    } else {
        Err(Problem::mistakes(mistakes))
    }
}

/// A handler that may be called; none if the text is empty, which takes away what was allowed.
fn callee(text: &str) -> Result<Option<HandlerName>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let name = text.parse().map_err(|bad: BadName| bad.to_string());
    name.map(Some)
}

/// A request; none if the text is empty, which takes away the one that was.
fn warm_up(text: &str) -> Result<Option<WarmUp>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some)
}

fn variable(text: &str) -> Result<(String, String), String> {
    let (name, value) = values::assignment(text)?;
    if value.contains('\0') {
        return Err(values::NUL_IN_VARIABLE.to_owned());
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn claim(text: &str) -> Result<bool, String> {
    text.parse()
        .map_err(|_| "write `true` or `false`".to_owned())
}

/// The version that a rollback goes to.
pub(super) fn to(operation: &Operation, query: &str) -> Result<Option<String>, Problem> {
    let parameters = operation.parameters(query).map_err(Problem::mistakes)?;
    Ok(parameters.into_iter().next().map(|(_, value)| value))
}

/// How many lines of the audit log, and before which.
pub(super) fn page(
    operation: &Operation,
    query: &str,
) -> Result<(usize, Option<Timestamp>), Problem> {
    let (mut last, mut before) = (AUDIT_LINES, None);
    let mut mistakes = Vec::new();
    for (name, value) in operation.parameters(query).map_err(Problem::mistakes)? {
        let mistake = match name {
            "last" => values::count(&value).map(|it| last = it.min(limits::AUDIT_ANSWER)),
            _ => value.parse().map(|it| before = Some(it)).map_err(|_| {
                "write a time as the log does, such as `2026-01-31T12:00:00Z`".to_owned()
            }),
        };
        mistakes.extend(mistake.err().map(|why| format!("`{name}`: {why}")));
    }
    if mistakes.is_empty() {
        Ok((last, before))
    } else {
        Err(Problem::mistakes(mistakes))
    }
}

/// Lines of the audit log for who does not say how many: a long screen.
const AUDIT_LINES: usize = 100;

/// What the client expects to change (RFC 9110, section 13.1).
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let matches = tags(headers, header::IF_MATCH)?;
    let none_match = tags(headers, header::IF_NONE_MATCH)?;
    match (matches, none_match) {
        (None, None) => Ok(Expected::Anything),
        (Some(tags), None) if tags == ["*"] => Ok(Expected::Something),
        (Some(tags), None) => Ok(Expected::Tags(tags)),
        (None, Some(tags)) if tags == ["*"] => Ok(Expected::Nothing),
        _ => Err(Problem::mistakes(vec![
            "a change takes `if-match: \"TAG\"`, `if-match: *` or `if-none-match: *`".to_owned(),
        ])),
    }
}

fn tags(headers: &HeaderMap, name: header::HeaderName) -> Result<Option<Vec<String>>, Problem> {
    let mut all = Vec::new();
    for value in headers.get_all(&name) {
        let text = value
            .to_str()
            .map_err(|_| Problem::mistakes(vec![format!("`{name}` is no list of tags")]))?;
        all.extend(text.split(',').map(|tag| tag.trim().to_owned()));
    }
    Ok(if headers.contains_key(&name) {
        Some(all)
    } else {
        None
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};

    use super::*;

    #[test]
    fn every_mistake_of_a_deploy_is_told_at_once() {
        let (operation, _) =
            super::super::routes::find(&Method::PUT, "/handlers/shop").expect("there");
        let problem = ask(
            operation,
            "route=..%2Fx&env=oops&timeout=never&memory=1K&allow_call=a/b&warm_up=x",
        )
        .expect_err("mistakes");
        assert_eq!(problem.status, 400);
        assert_eq!(problem.mistakes.len(), 6, "{problem:?}");
        for (env, why) in [
            ("%1B%5B2J%3Db", "`NAME=VALUE`"),
            ("A%0A%3Db", "`NAME=VALUE`"),
            ("%3Db", "`NAME=VALUE`"),
            ("A%3Db%00", "a NUL"),
        ] {
            let problem = ask(operation, &format!("env={env}")).expect_err(env);
            assert!(problem.detail.contains(why), "{problem:?}");
        }
        let good = ask(
            operation,
            "route=example.com/shop/*&strip_prefix=true&env=A%3Db%3Dc&memory=64MiB",
        )
        .expect("good");
        assert_eq!(
            (good.routes.len(), good.strip_prefix, good.memory),
            (1, Some(true), Some(64 << 20))
        );
        assert_eq!(
            (
                good.environment[0].0.as_str(),
                good.environment[0].1.reveal()
            ),
            ("A", "b=c")
        );
    }

    #[test]
    fn what_is_expected_is_said_in_one_way() {
        let headers = |pairs: &[(header::HeaderName, &'static str)]| {
            let pair = |(name, value): &(header::HeaderName, &'static str)| {
                (name.clone(), HeaderValue::from_static(value))
            };
            expected(&pairs.iter().map(pair).collect())
        };
        assert_eq!(headers(&[]).expect("good"), Expected::Anything);
        assert_eq!(
            headers(&[(header::IF_MATCH, "*")]).expect("good"),
            Expected::Something
        );
        assert_eq!(
            headers(&[(header::IF_NONE_MATCH, "*")]).expect("good"),
            Expected::Nothing
        );
        let tags = Expected::Tags(vec!["\"a.1\"".to_owned(), "\"b.2\"".to_owned()]);
        assert_eq!(
            headers(&[(header::IF_MATCH, "\"a.1\", \"b.2\"")]).expect("good"),
            tags
        );
        assert!(headers(&[(header::IF_NONE_MATCH, "\"a.1\"")]).is_err());
        assert!(headers(&[(header::IF_MATCH, "*"), (header::IF_NONE_MATCH, "*")]).is_err());
    }
}
