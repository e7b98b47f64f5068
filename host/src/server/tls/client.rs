//! What a client's certificate says, in the words of HTTP.

use std::fmt::Write as _;

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
    // What signs for it may have signed anything: a name that cannot be written is an error, and not the end of a thread.
    let mut subject = String::new();
    write!(subject, "{}", read.tbs_certificate.subject).ok()?;
    let subject = ascii(&subject);
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
            let _ = write!(written, "\\{byte:02X}");
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

    use super::*;

    fn of(subject: &[(DnType, &str)]) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in subject {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        certificate_of(certificate.der()).expect("told")
    }

    #[test]
    fn a_subject_is_one_text_that_no_value_can_pass_off_as_another() {
        use DnType::{CommonName, OrganizationName};
        for (subject, told) in [
            (
                vec![(OrganizationName, "o"), (CommonName, "ada")],
                "CN=ada,O=o",
            ),
            (vec![(CommonName, "eve,O=o")], "CN=eve\\,O=o"),
            (
                vec![(CommonName, " #\"+;<>\\ ")],
                "CN=\\ #\\\"\\+\\;\\<\\>\\\\\\ ",
            ),
            (vec![(CommonName, "a\r\nb: c\0")], "CN=a\\0d\\0ab: c\\00"),
            (vec![(CommonName, "é€")], "CN=\\C3\\A9\\E2\\82\\AC"),
            (vec![], ""),
        ] {
            assert_eq!(of(&subject).subject, told);
        }
    }

    #[test]
    fn what_is_too_large_or_no_certificate_is_not_told() {
        let large = "x".repeat(limits::CLIENT_CERTIFICATE);
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([large]).expect("a name");
        let certificate = params.self_signed(&key).expect("signed");
        assert_eq!(certificate_of(certificate.der()), None);
        assert_eq!(certificate_of(&CertificateDer::from(vec![0; 10])), None);
    }
}
