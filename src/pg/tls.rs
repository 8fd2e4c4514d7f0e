//! TLS with libpq's meaning of `sslmode`: rustls always verifies, so what to verify is decided here.

use super::conninfo::{ConnInfo, Roots, SslMode};
use crate::error::{Doing, Error, Kind, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

/// The TLS configuration for a server.
///
/// # Errors
/// [`Kind::Plan`] when a certificate or key file cannot be used, and which.
pub(super) fn client_config(info: &ConnInfo) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Verifier::new(info, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .doing(Kind::Bug, || "TLS cannot be set up".into())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match (&info.tls.certificate, &info.tls.key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(read_certificates(certificate, "sslcert")?, read_key(key)?)
            .doing(Kind::Plan, || format!("`sslcert` {} does not go with its key", certificate.display()))?,
        _ => builder.with_no_client_auth(),
    };
    if info.tls.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(Arc::new(config))
}

/// The name a certificate must carry: `host`, even when `hostaddr` says where to go.
pub(super) fn server_name(info: &ConnInfo) -> Result<ServerName<'static>> {
    ServerName::try_from(info.host().to_owned()).map_err(|_| {
        Error::new(
            Kind::Plan,
            "connection setting `host` is neither a DNS name nor an IP address, as TLS needs",
        )
        .hint("Name the server as its certificate does, and put its address into `hostaddr`.")
    })
}

fn read_certificates(path: &Path, setting: &str) -> Result<Vec<CertificateDer<'static>>> {
    let unusable = || format!("`{setting}` {} cannot be read as PEM certificates", path.display());
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).doing(Kind::Plan, unusable).map_err(
            |error| error.hint("It must exist, be readable by you, and hold BEGIN CERTIFICATE blocks."),
        )?;
    if certificates.is_empty() {
        return Err(Error::new(Kind::Plan, unusable()).hint("The file holds no BEGIN CERTIFICATE block."));
    }
    Ok(certificates)
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    let meta = std::fs::metadata(path)
        .doing(Kind::Plan, || format!("`sslkey` {} cannot be read", path.display()))?;
    // As libpq: 0600, or 0640 when it is root's.
    let forbidden = if meta.uid() == 0 { 0o037 } else { 0o077 };
    if meta.mode() & forbidden != 0 {
        return Err(Error::new(Kind::Plan, format!("`sslkey` {} can be read by others", path.display()))
            .hint("Take the permission away: chmod 600."));
    }
    PrivateKeyDer::from_pem_file(path)
        .doing(Kind::Plan, || format!("`sslkey` {} is not a PEM key", path.display()))
}

fn native_roots() -> &'static [CertificateDer<'static>] {
    static NATIVE: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    NATIVE.get_or_init(|| rustls_native_certs::load_native_certs().certs)
}

/// Verifies a server's certificate as far as `sslmode` asks.
#[derive(Debug)]
struct Verifier {
    mode: SslMode,
    anchors: Vec<CertificateDer<'static>>,
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    fn new(info: &ConnInfo, provider: &CryptoProvider) -> Result<Verifier> {
        let anchors = match &info.tls.roots {
            _ if info.tls.mode < SslMode::VerifyCa => Vec::new(),
            Roots::File(path) => read_certificates(path, "sslrootcert")?,
            Roots::Native => native_roots().to_vec(),
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(anchors.iter().cloned());
        let algorithms = provider.signature_verification_algorithms;
        Ok(Verifier { mode: info.tls.mode, anchors, roots, algorithms })
    }

    fn verify_chain(
        &self,
        parsed: &ParsedCertificate<'_>,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let chain =
            verify_server_cert_signed_by_trust_anchor(parsed, &self.roots, others, now, self.algorithms.all);
        match chain {
            Err(error) if !is_about_time(&error) && self.anchors.contains(leaf) => {
                // A self-signed certificate named as its own authority: common, fine with libpq, and as strong as
                // comparing fingerprints. webpki refuses it because it is marked as an authority.
                Ok(())
            }
            chain => chain,
        }
    }
}

fn is_about_time(error: &rustls::Error) -> bool {
    use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            Expired | NotValidYet | ExpiredContext { .. } | NotValidYetContext { .. }
        )
    )
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.mode < SslMode::VerifyCa {
            return Ok(ServerCertVerified::assertion());
        }
        let parsed = ParsedCertificate::try_from(leaf)?;
        self.verify_chain(&parsed, leaf, others, now)?;
        if self.mode == SslMode::VerifyFull {
            verify_server_name(&parsed, name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// `tls-server-end-point` of RFC 5929: the certificate's digest, by the hash of its own signature. `None` when that
/// signature names no hash (Ed25519, RSA-PSS): then there is nothing to bind to.
pub(super) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    // Certificate = SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { OID, … }, … }
    let (certificate_body, _) = der_value(certificate, 0x30)?;
    let (_, after_tbs) = der_value(certificate_body, 0x30)?;
    let (algorithm, _) = der_value(after_tbs, 0x30)?;
    let (oid, _) = der_value(algorithm, 0x06)?;
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    match (oid.strip_prefix(RSA), oid.strip_prefix(ECDSA)) {
        // MD5 and SHA-1 count as SHA-256 (RFC 5929, 4.1).
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => Some(Sha256::digest(certificate).to_vec()),
        (Some([12]), _) | (_, Some([3, 3])) => Some(Sha384::digest(certificate).to_vec()),
        (Some([13]), _) | (_, Some([3, 4])) => Some(Sha512::digest(certificate).to_vec()),
        _ => None,
    }
}

/// The content of a DER value with this tag, and what follows it.
fn der_value(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = bytes.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(signature_oid: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, body: &[u8]| -> Vec<u8> {
            [&[tag, 0x82, 0, u8::try_from(body.len()).unwrap()], body].concat()
        };
        let algorithm = wrap(0x30, &wrap(0x06, signature_oid));
        wrap(0x30, &[wrap(0x30, b"tbs"), algorithm, b"signature".to_vec()].concat())
    }

    #[test]
    fn the_end_point_is_hashed_as_the_certificate_was_signed() {
        let rsa = |last| [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1][..], &[last]].concat();
        for (oid, length) in [
            (rsa(5), Some(32)),
            (rsa(11), Some(32)),
            (rsa(12), Some(48)),
            (rsa(13), Some(64)),
            (rsa(10), None),
            (vec![0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2], Some(32)),
            (vec![0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 3], Some(48)),
            (vec![0x2b, 0x65, 0x70], None),
        ] {
            assert_eq!(server_end_point(&certificate(&oid)).map(|digest| digest.len()), length, "{oid:x?}");
        }
    }

    #[test]
    fn a_damaged_certificate_has_no_end_point() {
        let whole = certificate(&[0x2a]);
        for end in 0..whole.len() {
            assert_eq!(server_end_point(&whole[..end]), None);
        }
    }
}
