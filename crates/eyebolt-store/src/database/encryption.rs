use std::{path::Path, sync::Arc};

use percent_encoding::percent_decode_str;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_postgres::{Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::StoreError;

/// A PostgreSQL URL, and TLS where it asks for it: `sslmode=require`, `verify-ca` or `verify-full`. The server's
/// certificate is checked in each of the three, name included, against `sslrootcert` (a PEM file) or the system's
/// authorities. `disable`, `allow` and `prefer` promise nothing and are plain.
pub(super) fn parse(url: &str) -> Result<(Config, Option<MakeRustlsConnect>), StoreError> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut mode, mut authorities, mut rest) = ("prefer", None, Vec::new());
    for parameter in query.split('&') {
        match parameter.split_once('=') {
            Some(("sslmode", told)) => mode = told,
            Some(("sslrootcert", path)) => authorities = Some(path),
            _ => rest.push(parameter),
        }
    }
    let mut config: Config = format!("{server}?{}", rest.join("&")).parse().map_err(refused)?;
    match mode {
        "disable" | "allow" | "prefer" => {
            config.ssl_mode(SslMode::Disable);
            Ok((config, None))
        }
        "require" | "verify-ca" | "verify-full" => {
            config.ssl_mode(SslMode::Require);
            Ok((config, Some(MakeRustlsConnect::new(client(authorities)?))))
        }
        unknown => Err(refused(format!("sslmode={unknown} is not known"))),
    }
}

fn client(authorities: Option<&str>) -> Result<ClientConfig, StoreError> {
    let mut trusted = RootCertStore::empty();
    let found = match authorities {
        Some(path) => {
            let path = percent_decode_str(path).decode_utf8_lossy().into_owned();
            of_file(Path::new(&path)).map_err(|reason| refused(format!("sslrootcert {path}: {reason}")))?
        }
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = trusted.add_parsable_certificates(found);
    if added == 0 {
        return Err(refused("no certificate authority is known: sslrootcert names a PEM file".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(refused)?.with_root_certificates(trusted).with_no_client_auth())
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    CertificateDer::pem_file_iter(path)?.collect()
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn refused(reason: impl ToString) -> StoreError {
    StoreError::Unavailable { reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(url: &str) -> String {
        parse(url).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn urls_ask_for_encryption_as_elsewhere() {
        for plain in ["postgres://u@db/x", "postgres://u@db/x?sslmode=prefer&connect_timeout=3"] {
            let (config, tls) = parse(plain).unwrap();
            assert_eq!((config.get_ssl_mode(), tls.is_some()), (SslMode::Disable, false), "{plain}");
        }
        let certificate = tempfile::NamedTempFile::new().unwrap();
        let of = |path: &str| {
            format!("postgres://u@db/x?sslmode=verify-full&sslrootcert={path}&application_name=y")
        };
        let empty = reason(&of(&certificate.path().display().to_string()));
        assert!(empty.contains("no certificate authority is known"), "{empty}");
        let missing = reason(&of("%2Fnowhere"));
        assert!(missing.contains("sslrootcert /nowhere: "), "{missing}");
        assert!(reason("postgres://u@db/x?sslmode=maybe").contains("sslmode=maybe is not known"));
    }
}
