//! What a client's certificate says, in the words of HTTP.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::pki_types::CertificateDer;
use x509_cert::der::Decode as _;

use crate::client::ClientCertificate;
use crate::limits;

/// Of one that was verified. None if it cannot be said in a header.
pub(in crate::server) fn certificate_of(der: &CertificateDer<'_>) -> Option<ClientCertificate> {
    if der.len() > limits::CLIENT_CERTIFICATE {
        return None;
    }
    let read = x509_cert::Certificate::from_der(der).ok()?;
    let subject = ascii(&read.tbs_certificate.subject.to_string());
    Some(ClientCertificate {
        subject: HeaderValue::try_from(subject).ok()?,
        certificate: HeaderValue::try_from(format!(":{}:", STANDARD.encode(der))).ok()?,
    })
}

/// What is not ASCII, as RFC 4514 (2.4) writes bytes.
fn ascii(name: &str) -> String {
    let mut written = String::with_capacity(name.len());
    for character in name.chars() {
        if character.is_ascii() {
            written.push(character);
            continue;
        }
        let mut bytes = [0; 4];
        for byte in character.encode_utf8(&mut bytes).bytes() {
            written.push_str(&format!("\\{byte:02X}"));
        }
    }
    written
}
