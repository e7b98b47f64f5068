//! What a request must be before anything looks at it, and the URI that a guest sees.

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header, request};

use super::Failure;
use super::forwarded::Origin;
use crate::capabilities::calls::SUFFIX;
use crate::catalog::is_dots;
use crate::client::{ClientCertificate, Peer};
use crate::limits::DoorLimits;

/// Checks the head of a request and completes its URI with scheme and authority.
pub(super) fn head(
    parts: &mut request::Parts,
    origin: &Origin,
    limits: &DoorLimits,
) -> Result<(), Failure> {
    if parts.method == Method::CONNECT {
        return Err(Failure::NoTunnel);
    }
    // Heads of HTTP/1 came through the same limits before. HTTP/2 clients may split cookies into many fields; each counts.
    if parts.headers.len() > limits.request_headers
        || parts.version == Version::HTTP_2 && list_size(parts) > limits.request_head
    {
        return Err(Failure::HeadTooLarge);
    }
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    certificate(&mut parts.headers, origin.certificate.as_deref());
    let mut authority = authority(&parts.uri, &parts.headers, parts.version, origin.local)?;
    if let Some(host) = &origin.host {
        authority = host_of(host).ok_or(Failure::BadRequest(
            "the Host that a proxy forwards is not valid",
        ))?;
        parts.headers.insert(header::HOST, host.clone());
    }
    let path = path(&parts.uri, &parts.method)?;
    parts.uri = Uri::builder()
        .scheme(origin.scheme.clone())
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| Failure::BadRequest("the request's target is not valid"))?;
    Ok(())
}

/// RFC 9112, section 3.2: a path, or a whole URI. `*` is for OPTIONS and an authority for CONNECT, and nothing else.
fn path(uri: &Uri, method: &Method) -> Result<PathAndQuery, Failure> {
    let invalid = Failure::BadRequest("the request's target is not valid");
    let is_of_http = uri
        .scheme()
        .is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    match uri.path_and_query() {
        Some(path) if is_of_http && (path != "*" || method == Method::OPTIONS) => {
            refuse_dots(path)?;
            Ok(path.clone())
        }
        _ => Err(invalid),
    }
}

/// Clients resolve dots before they send a path. Of those that do not, the guest could think that they lead elsewhere than to
/// its route; and some take a backslash for a slash.
fn refuse_dots(target: &PathAndQuery) -> Result<(), Failure> {
    let path = target.path();
    if path.contains('\\') || path.split('/').any(is_dots) {
        return Err(Failure::BadRequest(
            "the request's path has a segment `.` or `..`, or a backslash",
        ));
    }
    Ok(())
}

/// Checks the head of a call, and completes it to what a client of the handler of this name would send.
pub(super) fn call(
    parts: &mut request::Parts,
    name: &str,
    limits: &DoorLimits,
) -> Result<(), Failure> {
    if parts.method == Method::CONNECT {
        return Err(Failure::NoTunnel);
    }
    super::drop_hop_by_hop(&mut parts.headers);
    certificate(&mut parts.headers, None);
    if parts.headers.len() > limits.request_headers {
        return Err(Failure::HeadTooLarge);
    }
    let invalid = |_| Failure::BadRequest("the request's target is not valid");
    let host = HeaderValue::try_from(format!("{name}{SUFFIX}"));
    let host = host.map_err(|_| Failure::BadRequest("the request's Host is not valid"))?;
    let path = match parts.uri.path_and_query() {
        Some(path) => path.clone(),
        None => PathAndQuery::from_static("/"),
    };
    refuse_dots(&path)?;
    parts.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(host.as_bytes())
        .path_and_query(path)
        .build()
        .map_err(invalid)?;
    parts.headers.insert(header::HOST, host);
    Ok(())
}

/// RFC 9113, section 8.2.3: a cookie in several fields is one field to who does not speak HTTP/2. It stands where the first stood.
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(header::COOKIE);
    if crumbs.iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<_> = crumbs.iter().map(HeaderValue::as_bytes).collect();
    // What is put together of values is one.
    if let Ok(cookie) = HeaderValue::try_from(crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, cookie);
    }
}

/// Tells the guest of the certificate that its client has shown. What a client says of it itself is thrown away, also where
/// nobody is asked for one, so that a guest can rely on it; `_` is `-` to many programs.
pub(super) fn certificate(headers: &mut HeaderMap, shown: Option<&ClientCertificate>) {
    let is_ours = |name: &HeaderName| {
        CERTIFICATE_HEADERS.iter().any(|own| {
            let own = own.as_str().bytes();
            let said = name.as_str().bytes();
            own.len() == said.len()
                && own
                    .zip(said)
                    .all(|(own, it)| own == it || own == b'-' && it == b'_')
        })
    };
    let forged: Vec<_> = headers
        .keys()
        .filter(|name| is_ours(name))
        .cloned()
        .collect();
    for name in forged {
        headers.remove(name);
    }
    if let Some(shown) = shown {
        let [certificate, subject, _] = CERTIFICATE_HEADERS;
        headers.insert(certificate, shown.certificate.clone());
        headers.insert(subject, shown.subject.clone());
    }
}

/// RFC 9440, and the subject alone. The chain that led to it is never told.
const CERTIFICATE_HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("client-cert"),
    HeaderName::from_static("x-client-cert-subject"),
    HeaderName::from_static("client-cert-chain"),
];

/// As RFC 9113, section 6.5.2, counts: the names, the values, and 32 bytes for each field; of the pseudo-headers only
/// those that can be long.
fn list_size(parts: &request::Parts) -> usize {
    let target = parts
        .uri
        .path_and_query()
        .map_or(0, |path| path.as_str().len());
    let fields = parts.headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum::<usize>()
        + target
        + parts
            .uri
            .authority()
            .map_or(0, |authority| authority.as_str().len())
}

/// RFC 9112, section 3.2: exactly one valid Host. HTTP/1.0 may do without: then it is the address that the client connected to.
/// RFC 9113, section 8.3.1: HTTP/2 has `:authority` or a Host. Whoever says it in two ways says the same: an absolute target
/// would overrule a Host, and who stands before us may have gone by the Host.
fn authority(
    uri: &Uri,
    headers: &HeaderMap,
    version: Version,
    local: Peer,
) -> Result<Authority, Failure> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Failure::BadRequest("the request has more than one Host"));
    }
    let host = match host {
        Some(host) => {
            Some(host_of(host).ok_or(Failure::BadRequest("the request's Host is not valid"))?)
        }
        None if version == Version::HTTP_11
            || version == Version::HTTP_2 && uri.authority().is_none() =>
        {
            return Err(Failure::BadRequest("the request has no Host"));
        }
        None => None,
    };
    match (uri.authority(), host) {
        (Some(target), _) if !is_host(target) => {
            Err(Failure::BadRequest("the request's target is not valid"))
        }
        (Some(target), Some(host)) if *target != host => Err(Failure::BadRequest(
            "the request's Host is not the host of its target",
        )),
        (Some(target), _) => Ok(target.clone()),
        (None, Some(host)) => Ok(host),
        (None, None) => match local {
            Peer::Address(address) => Authority::try_from(address.to_string())
                .map_err(|_| Failure::BadRequest("the request has no Host")),
            Peer::Unix => Ok(Authority::from_static("localhost")),
        },
    }
}

fn host_of(value: &HeaderValue) -> Option<Authority> {
    let authority = Authority::try_from(value.as_bytes()).ok();
    authority.filter(is_host)
}

/// A name or an address, and an optional port: without the user that an authority may have elsewhere, and without what a URI
/// allows for in a name and no name has.
fn is_host(authority: &Authority) -> bool {
    let text = authority.as_str();
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let is_named = |host: &str| {
        let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !host.is_empty() && host.bytes().all(is_of_name)
    };
    let is_port =
        |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let address = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    port.is_none_or(is_port)
        && match address {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_named(host),
        }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(value: &'static str) -> Result<Authority, Failure> {
        let headers = HeaderMap::from_iter([(header::HOST, http::HeaderValue::from_static(value))]);
        authority(
            &Uri::from_static("/"),
            &headers,
            Version::HTTP_11,
            Peer::Address(([127, 0, 0, 1], 80).into()),
        )
    }

    #[test]
    fn http_2_names_its_authority_once_or_twice_the_same() {
        let asked = |target: &'static str, host: Option<&'static str>| {
            let host = host.map(|host| (header::HOST, http::HeaderValue::from_static(host)));
            authority(
                &Uri::from_static(target),
                &host.into_iter().collect(),
                Version::HTTP_2,
                Peer::Address(([127, 0, 0, 1], 80).into()),
            )
        };
        for (target, host) in [
            ("http://a.example/", None),
            ("http://a.example/", Some("a.example")),
            ("http://a.example/", Some("A.example")),
            ("/", Some("a.example")),
        ] {
            assert_eq!(asked(target, host).expect("one"), "a.example");
        }
        assert!(asked("/", None).is_err());
        assert!(asked("http://a.example/", Some("b.example")).is_err());
    }

    #[test]
    fn a_cookie_in_several_fields_is_one_where_the_first_stood() {
        for (crumbs, cookie) in [
            (&[][..], &[][..]),
            (&["a=1"], &["a=1"]),
            (&["a=1; b=2", "", "c=\u{e9};"], &["a=1; b=2; ; c=\u{e9};"]),
        ] {
            let with = |cookies: &[&str]| {
                let mut headers = HeaderMap::new();
                headers.insert("x-before", HeaderValue::from_static("1"));
                for cookie in cookies {
                    let cookie = HeaderValue::from_bytes(cookie.as_bytes()).expect("a value");
                    headers.append(header::COOKIE, cookie);
                }
                headers.insert("x-behind", HeaderValue::from_static("2"));
                headers
            };
            let mut joined = with(crumbs);
            join_cookies(&mut joined);
            let wanted = with(cookie);
            assert!(joined.iter().eq(wanted.iter()), "{joined:?}");
        }
    }

    #[test]
    fn a_path_that_could_lead_elsewhere_is_refused() {
        for (target, is_fine) in [
            ("/a.b/...//.c?/../\\", true),
            ("/a%2F..%2Fb", true),
            ("/a%5C..", true),
            ("http://a?x", true),
            ("/.", false),
            ("/a/../b", false),
            ("/a/..", false),
            ("/a/..?x", false),
            ("//%2e%2E/b", false),
            ("/a/.%2e/b", false),
            ("http://a/%2e/b", false),
            ("/a\\b", false),
        ] {
            let target = Uri::from_static(target);
            assert_eq!(path(&target, &Method::GET).is_ok(), is_fine, "{target}");
        }
    }

    #[test]
    fn a_certificate_is_told_and_never_taken_from_a_client() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("client-cert", ":AAAA:"),
            ("client_cert", ":AAAA:"),
            ("client-cert-chain", ":AAAA:"),
            ("x-client-cert-subject", "CN=root"),
            ("x_client-cert_subject", "CN=root"),
            ("x-client-cert-subjects", "not ours"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let shown = ClientCertificate {
            subject: HeaderValue::from_static("CN=ada"),
            certificate: HeaderValue::from_static(":BBBB:"),
        };
        let mut of_nobody = headers.clone();
        certificate(&mut of_nobody, None);
        assert_eq!(of_nobody.len(), 1, "{of_nobody:?}");
        certificate(&mut headers, Some(&shown));
        assert_eq!(headers.len(), 3, "{headers:?}");
        assert_eq!(headers["x-client-cert-subject"], "CN=ada");
        assert_eq!(headers["client-cert"], ":BBBB:");
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for good in [
            "example.com",
            "example.com:8080",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8080",
            "localhost",
            "a_b.example",
            "xn--bcher-kva.example.",
        ] {
            assert_eq!(host(good).expect(good), good);
        }
        for bad in [
            "",
            "a@b",
            "a/b",
            "a, b",
            "a b",
            "example.com:",
            "example.com:99999",
            "example.com:x",
            ":80",
            "a:+80",
            "a:80:80",
            "a,b",
            "a%2eb",
            "a;b",
            "[::1",
            "[a]",
            "[::1]x",
            "::1",
            "a[::1]",
        ] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}
