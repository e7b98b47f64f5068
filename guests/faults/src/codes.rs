//! wasi:http's error codes by the names that WIT gives them, in lower case.

use crate::ErrorCode::{self, *};
use crate::{DnsErrorPayload, FieldSizePayload, TlsAlertReceivedPayload};

/// Payloads are empty, but for the text that no client should see.
pub(crate) fn from_name(name: &str) -> Option<ErrorCode> {
    Some(match name.to_ascii_lowercase().as_str() {
        "dns-timeout" => DnsTimeout,
        "dns-error" => DnsError(DnsErrorPayload {
            rcode: None,
            info_code: None,
        }),
        "destination-not-found" => DestinationNotFound,
        "destination-unavailable" => DestinationUnavailable,
        "destination-ip-prohibited" => DestinationIpProhibited,
        "destination-ip-unroutable" => DestinationIpUnroutable,
        "connection-refused" => ConnectionRefused,
        "connection-terminated" => ConnectionTerminated,
        "connection-timeout" => ConnectionTimeout,
        "connection-read-timeout" => ConnectionReadTimeout,
        "connection-write-timeout" => ConnectionWriteTimeout,
        "connection-limit-reached" => ConnectionLimitReached,
        "tls-protocol-error" => TlsProtocolError,
        "tls-certificate-error" => TlsCertificateError,
        "tls-alert-received" => TlsAlertReceived(TlsAlertReceivedPayload {
            alert_id: None,
            alert_message: None,
        }),
        "http-request-denied" => HttpRequestDenied,
        "http-request-length-required" => HttpRequestLengthRequired,
        "http-request-body-size" => HttpRequestBodySize(None),
        "http-request-method-invalid" => HttpRequestMethodInvalid,
        "http-request-uri-invalid" => HttpRequestUriInvalid,
        "http-request-uri-too-long" => HttpRequestUriTooLong,
        "http-request-header-section-size" => HttpRequestHeaderSectionSize(None),
        "http-request-header-size" => HttpRequestHeaderSize(None),
        "http-request-trailer-section-size" => HttpRequestTrailerSectionSize(None),
        "http-request-trailer-size" => HttpRequestTrailerSize(NO_FIELD),
        "http-response-incomplete" => HttpResponseIncomplete,
        "http-response-header-section-size" => HttpResponseHeaderSectionSize(None),
        "http-response-header-size" => HttpResponseHeaderSize(NO_FIELD),
        "http-response-body-size" => HttpResponseBodySize(None),
        "http-response-trailer-section-size" => HttpResponseTrailerSectionSize(None),
        "http-response-trailer-size" => HttpResponseTrailerSize(NO_FIELD),
        "http-response-transfer-coding" => HttpResponseTransferCoding(None),
        "http-response-content-coding" => HttpResponseContentCoding(None),
        "http-response-timeout" => HttpResponseTimeout,
        "http-upgrade-failed" => HttpUpgradeFailed,
        "http-protocol-error" => HttpProtocolError,
        "loop-detected" => LoopDetected,
        "configuration-error" => ConfigurationError,
        "internal-error" => InternalError(Some("secret detail".to_owned())),
        _ => return None,
    })
}

const NO_FIELD: FieldSizePayload = FieldSizePayload {
    field_name: None,
    field_size: None,
};
