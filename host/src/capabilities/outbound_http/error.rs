//! What went wrong with a destination, as a guest hears of it: one of the error codes of wasi:http.

use std::error::Error as _;
use std::io;

use wasmtime_wasi_http::Error;

/// TCP could not be set up.
pub(super) fn of_connect(error: &io::Error) -> Error {
    use io::ErrorKind::{
        AddrNotAvailable, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkDown, NetworkUnreachable, TimedOut,
    };
    match error.kind() {
        ConnectionRefused => Error::ConnectionRefused,
        ConnectionReset | ConnectionAborted => Error::ConnectionTerminated,
        TimedOut => Error::ConnectionTimeout,
        HostUnreachable | NetworkUnreachable | NetworkDown | AddrNotAvailable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

/// TLS could not be set up.
pub(super) fn of_handshake(error: &io::Error) -> Error {
    of_tls(error).unwrap_or(match error.kind() {
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            Error::ConnectionTerminated
        }
        _ => Error::TlsProtocolError,
    })
}

fn of_tls(error: &io::Error) -> Option<Error> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match error {
        rustls::Error::InvalidCertificate(_)
        | rustls::Error::InvalidCertRevocationList(_)
        | rustls::Error::NoCertificatesPresented => Error::TlsCertificateError,
        rustls::Error::AlertReceived(alert) => Error::TlsAlertReceived {
            alert_id: Some(u8::from(*alert)),
            alert_message: Some(format!("{alert:?}")),
        },
        _ => Error::TlsProtocolError,
    })
}

/// There is no head of a response.
pub(super) fn of_head(error: &hyper::Error) -> Error {
    if error.is_parse_too_large() {
        return Error::HttpResponseHeaderSectionSize(None);
    }
    if error.is_user() {
        return of_own_body(error);
    }
    if let Some(io) = io_of(error) {
        return of_tls(io).unwrap_or(match io.kind() {
            io::ErrorKind::InvalidData => Error::HttpProtocolError,
            _ => Error::ConnectionTerminated,
        });
    }
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return Error::ConnectionTerminated;
    }
    if let Some(h2) = h2_of(error)
        && h2.is_remote()
        && !is_wrong(h2)
    {
        return Error::ConnectionTerminated;
    }
    Error::HttpProtocolError
}

/// A response broke off within its body.
pub(super) fn of_body(error: &hyper::Error) -> Error {
    if error.is_user() {
        return of_own_body(error);
    }
    if error.is_parse_too_large() {
        return Error::HttpResponseTrailerSectionSize(None);
    }
    if error.is_parse() {
        return Error::HttpProtocolError;
    }
    let Some(io) = io_of(error) else {
        let is_nonsense = h2_of(error).is_some_and(|h2| !h2.is_remote() || is_wrong(h2));
        return if is_nonsense {
            Error::HttpProtocolError
        } else {
            Error::HttpResponseIncomplete
        };
    };
    of_tls(io).unwrap_or(match io.kind() {
        // hyper tells of trailers that are too many or too long in words alone.
        io::ErrorKind::InvalidData if io.to_string().contains("chunk trailers") => {
            Error::HttpResponseTrailerSectionSize(None)
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Error::HttpProtocolError,
        _ => Error::HttpResponseIncomplete,
    })
}

/// The guest itself has not finished its request.
fn of_own_body(error: &hyper::Error) -> Error {
    let source = error.source();
    match source.and_then(|source| source.downcast_ref::<Error>()) {
        Some(Error::HttpRequestBodySize(size)) => Error::HttpRequestBodySize(*size),
        _ => Error::ConnectionTerminated,
    }
}

fn io_of(error: &hyper::Error) -> Option<&io::Error> {
    let mut source = error.source();
    while let Some(error) = source {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        if let Some(io) = error
            .downcast_ref::<h2::Error>()
            .and_then(h2::Error::get_io)
        {
            return Some(io);
        }
        source = error.source();
    }
    None
}

fn h2_of(error: &hyper::Error) -> Option<&h2::Error> {
    error.source()?.downcast_ref()
}

/// What the other side says that we did wrong, or cannot do.
fn is_wrong(error: &h2::Error) -> bool {
    matches!(
        error.reason(),
        Some(
            h2::Reason::PROTOCOL_ERROR
                | h2::Reason::FLOW_CONTROL_ERROR
                | h2::Reason::FRAME_SIZE_ERROR
                | h2::Reason::COMPRESSION_ERROR
                | h2::Reason::HTTP_1_1_REQUIRED
        )
    )
}

/// The name of a `wasi:http/types.error-code`, as WIT spells it.
#[must_use]
pub fn code_name(error: &Error) -> &'static str {
    match error {
        Error::DnsTimeout => "DNS-timeout",
        Error::DnsError { .. } => "DNS-error",
        Error::DestinationNotFound => "destination-not-found",
        Error::DestinationUnavailable => "destination-unavailable",
        Error::DestinationIpProhibited => "destination-IP-prohibited",
        Error::DestinationIpUnroutable => "destination-IP-unroutable",
        Error::ConnectionRefused | Error::Connect(_) => "connection-refused",
        Error::ConnectionTerminated => "connection-terminated",
        Error::ConnectionTimeout => "connection-timeout",
        Error::ConnectionReadTimeout => "connection-read-timeout",
        Error::ConnectionWriteTimeout => "connection-write-timeout",
        Error::ConnectionLimitReached => "connection-limit-reached",
        Error::TlsProtocolError | Error::Tls(_) => "TLS-protocol-error",
        Error::TlsCertificateError => "TLS-certificate-error",
        Error::TlsAlertReceived { .. } => "TLS-alert-received",
        Error::HttpRequestDenied => "HTTP-request-denied",
        Error::HttpRequestLengthRequired => "HTTP-request-length-required",
        Error::HttpRequestBodySize(_) => "HTTP-request-body-size",
        Error::HttpRequestMethodInvalid => "HTTP-request-method-invalid",
        Error::HttpRequestUriInvalid => "HTTP-request-URI-invalid",
        Error::HttpRequestUriTooLong => "HTTP-request-URI-too-long",
        Error::HttpRequestHeaderSectionSize(_) => "HTTP-request-header-section-size",
        Error::HttpRequestHeaderSize { .. } => "HTTP-request-header-size",
        Error::HttpRequestTrailerSectionSize(_) => "HTTP-request-trailer-section-size",
        Error::HttpRequestTrailerSize { .. } => "HTTP-request-trailer-size",
        Error::HttpResponseIncomplete => "HTTP-response-incomplete",
        Error::HttpResponseHeaderSectionSize(_) => "HTTP-response-header-section-size",
        Error::HttpResponseHeaderSize { .. } => "HTTP-response-header-size",
        Error::HttpResponseBodySize(_) => "HTTP-response-body-size",
        Error::HttpResponseTrailerSectionSize(_) => "HTTP-response-trailer-section-size",
        Error::HttpResponseTrailerSize { .. } => "HTTP-response-trailer-size",
        Error::HttpResponseTransferCoding(_) => "HTTP-response-transfer-coding",
        Error::HttpResponseContentCoding(_) => "HTTP-response-content-coding",
        Error::HttpResponseTimeout => "HTTP-response-timeout",
        Error::HttpUpgradeFailed => "HTTP-upgrade-failed",
        Error::HttpProtocolError | Error::Hyper(_) => "HTTP-protocol-error",
        Error::LoopDetected => "loop-detected",
        Error::ConfigurationError => "configuration-error",
        _ => "internal-error",
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;
    use rustls::{AlertDescription, CertificateError};

    use super::*;

    #[test]
    fn what_tcp_says_has_a_code() {
        for (error, code) in [
            (Errno::CONNREFUSED, "connection-refused"),
            (Errno::CONNRESET, "connection-terminated"),
            (Errno::TIMEDOUT, "connection-timeout"),
            (Errno::HOSTUNREACH, "destination-IP-unroutable"),
            (Errno::NETUNREACH, "destination-IP-unroutable"),
            (Errno::NETDOWN, "destination-IP-unroutable"),
            (Errno::ADDRNOTAVAIL, "destination-IP-unroutable"),
            (Errno::MFILE, "destination-unavailable"),
        ] {
            assert_eq!(code_name(&of_connect(&error.into())), code, "{error}");
        }
    }

    #[test]
    fn what_tls_says_has_a_code() {
        for (error, code) in [
            (
                rustls::Error::AlertReceived(AlertDescription::CertificateRequired),
                "TLS-alert-received",
            ),
            (
                rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "TLS-certificate-error",
            ),
            (rustls::Error::DecryptError, "TLS-protocol-error"),
        ] {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(code_name(&of_handshake(&error)), code, "{error}");
        }
        let alert = rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let alert = io::Error::new(io::ErrorKind::InvalidData, alert);
        let Error::TlsAlertReceived {
            alert_id,
            alert_message,
        } = of_handshake(&alert)
        else {
            panic!("another code");
        };
        // RFC 8446, 6.2.
        assert_eq!(alert_id, Some(116));
        assert_eq!(alert_message.as_deref(), Some("CertificateRequired"));
        let closed = io::ErrorKind::UnexpectedEof.into();
        assert_eq!(code_name(&of_handshake(&closed)), "connection-terminated");
    }
}
