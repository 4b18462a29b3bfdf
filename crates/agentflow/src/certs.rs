//! `agentflow certs`: a private authority for development, and what it signs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use clap::Args;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// Last year in which what is made here is valid.
const LAST_YEAR: i32 = 2045;

/// What is to be made.
#[derive(Debug, Args)]
pub(crate) struct Certs {
    /// Folder; created if missing. Files that exist are an error.
    #[arg(default_value = "certs")]
    dir: PathBuf,
    /// Name or address of the server; may be repeated.
    #[arg(long = "host", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()])]
    hosts: Vec<String>,
    /// Name of a client; may be repeated.
    #[arg(long = "client")]
    clients: Vec<String>,
}

impl Certs {
    /// Makes them and says what to do with them.
    ///
    /// # Errors
    /// `Conflict` if a file exists, `Invalid` for a folder that cannot be written or a bad name.
    pub(crate) fn run(&self) -> Result<String> {
        fs::create_dir_all(&self.dir).map_err(|err| broken(&self.dir, err))?;
        let key = KeyPair::generate().map_err(rejected)?;
        let issuer = CertifiedIssuer::self_signed(authority()?, key).map_err(rejected)?;
        let mut written = vec![self.write("ca.pem", &issuer.pem(), 0o644)?];
        written.push(self.write("ca.key", &issuer.key().serialize_pem(), 0o600)?);
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        written.extend(self.sign(&issuer, "server", &self.hosts, server)?);
        for name in &self.clients {
            let is_plain = |char: char| char.is_ascii_alphanumeric() || "-_.".contains(char);
            if name.is_empty() || !name.chars().all(is_plain) {
                return Err(
                    Error::invalid("the name of a client has odd characters").with("name", name)
                );
            }
            let client = ExtendedKeyUsagePurpose::ClientAuth;
            let file = format!("client-{name}");
            written.extend(self.sign(&issuer, &file, std::slice::from_ref(name), client)?);
        }
        let lines: Vec<String> = written
            .iter()
            .map(|path| format!("wrote {}", path.display()))
            .collect();
        let dir = self.dir.display();
        Ok(format!(
            "{}\n\nfor agentflow.toml:\n[server.tls]\ncert_file = \"{dir}/server.pem\"\n\
             key_file = \"{dir}/server.key\"\n\nclients trust {dir}/ca.pem. \
             For development; keep ca.key to yourself.",
            lines.join("\n")
        ))
    }

    fn sign(
        &self,
        issuer: &CertifiedIssuer<'static, KeyPair>,
        file: &str,
        names: &[String],
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<[PathBuf; 2]> {
        let first = names.first().map_or("agentflow", String::as_str);
        let mut params = params(names, first)?;
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(rejected)?;
        let cert = params.signed_by(&key, issuer).map_err(rejected)?;
        Ok([
            self.write(&format!("{file}.pem"), &cert.pem(), 0o644)?,
            self.write(&format!("{file}.key"), &key.serialize_pem(), 0o600)?,
        ])
    }

    fn write(&self, name: &str, pem: &str, mode: u32) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if path.exists() {
            return Err(Error::conflict("the file exists").with("path", path.display()));
        }
        // The mode first: a key must never have been readable.
        fs::write(&path, "").map_err(|err| broken(&path, err))?;
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(&path, permissions).map_err(|err| broken(&path, err))?;
        fs::write(&path, pem).map_err(|err| broken(&path, err))?;
        Ok(path)
    }
}

fn params(names: &[String], common_name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).map_err(rejected)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(LAST_YEAR, 1, 1);
    Ok(params)
}

fn authority() -> Result<CertificateParams> {
    let mut params = params(&[], "agentflow development authority")?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn rejected(err: rcgen::Error) -> Error {
    Error::invalid("a certificate cannot be made").source_err(err)
}

fn broken(path: &Path, err: std::io::Error) -> Error {
    Error::invalid("a file cannot be written")
        .with("path", path.display())
        .source_err(err)
}
