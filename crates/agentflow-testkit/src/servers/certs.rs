//! Certificates for tests: a private authority, what it signs, and what is wrong on purpose.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use agentflow_types::{Error, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde::{Deserialize, Serialize};

use super::find;

/// Names of a server on the loopback interface.
const LOCAL: [&str; 2] = ["localhost", "127.0.0.1"];

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug, Hash, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The certificate, followed by those between it and the root.
    pub cert: PathBuf,
    /// Its key in PKCS#8, readable by the owner only.
    pub key: PathBuf,
}

/// A private authority that signs certificates into a folder.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: PathBuf,
    /// Name of the files.
    name: String,
    /// The certificates between what it signs and the root, PEM; what it signs carries them.
    chain: String,
}

/// The years in which a certificate is valid.
#[derive(Clone, Copy)]
enum Validity {
    /// 2020 to 2098.
    Now,
    /// 2020 to 2021.
    Past,
    /// 2097 to 2098.
    Future,
}

impl Authority {
    /// A new authority whose certificate is `NAME.pem` in `dir`.
    ///
    /// # Errors
    /// `Failed` if the folder cannot be written.
    pub fn new(dir: &Path, name: &str) -> Result<Self> {
        let key = KeyPair::generate().map_err(rejected)?;
        let issuer = CertifiedIssuer::self_signed(authority(name)?, key).map_err(rejected)?;
        Self::keep(issuer, dir, name, String::new())
    }

    /// An authority below this one. What it signs is good for whoever trusts this one, because
    /// its certificate goes along.
    ///
    /// # Errors
    /// As [`Authority::new`].
    pub fn below(&self, name: &str) -> Result<Self> {
        let key = KeyPair::generate().map_err(rejected)?;
        let issuer =
            CertifiedIssuer::signed_by(authority(name)?, key, &self.issuer).map_err(rejected)?;
        let chain = issuer.pem() + &self.chain;
        Self::keep(issuer, &self.dir, name, chain)
    }

    fn keep(
        issuer: CertifiedIssuer<'static, KeyPair>,
        dir: &Path,
        name: &str,
        chain: String,
    ) -> Result<Self> {
        let authority = Self {
            issuer,
            dir: dir.to_owned(),
            name: name.to_owned(),
            chain,
        };
        write(&authority.pem(), &authority.issuer.pem(), 0o644)?;
        Ok(authority)
    }

    /// File with the authority's certificate.
    #[must_use]
    pub fn pem(&self) -> PathBuf {
        self.dir.join(format!("{}.pem", self.name))
    }

    /// A certificate for servers on 127.0.0.1 and `localhost`.
    ///
    /// # Errors
    /// `Failed` if the folder cannot be written; so with the others.
    pub fn server(&self) -> Result<Identity> {
        self.server_named("server", &LOCAL)
    }

    /// A certificate for a server of another name, in files called `file`.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn server_named(&self, file: &str, names: &[&str]) -> Result<Identity> {
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        self.sign(file, params(names, names[0], Validity::Now)?, usage)
    }

    /// A server's certificate that has expired.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn expired_server(&self) -> Result<Identity> {
        let params = params(&LOCAL, LOCAL[0], Validity::Past)?;
        self.sign(
            "expired-server",
            params,
            ExtendedKeyUsagePurpose::ServerAuth,
        )
    }

    /// A server's certificate whose time has not come.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn early_server(&self) -> Result<Identity> {
        let params = params(&LOCAL, LOCAL[0], Validity::Future)?;
        self.sign("early-server", params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client's certificate; PostgreSQL compares the common name with the role.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn client(&self, common_name: &str) -> Result<Identity> {
        let params = params(&[], common_name, Validity::Now)?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.sign(&format!("client-{common_name}"), params, usage)
    }

    /// A client's certificate that has expired.
    ///
    /// # Errors
    /// As [`Authority::server`].
    pub fn expired_client(&self, common_name: &str) -> Result<Identity> {
        let params = params(&[], common_name, Validity::Past)?;
        let usage = ExtendedKeyUsagePurpose::ClientAuth;
        self.sign(&format!("expired-client-{common_name}"), params, usage)
    }

    fn sign(
        &self,
        file: &str,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(rejected)?;
        let cert = params.signed_by(&key, &self.issuer).map_err(rejected)?;
        let path = |end: &str| self.dir.join(format!("{}-{file}.{end}", self.name));
        let identity = Identity {
            cert: path("pem"),
            key: path("key"),
        };
        write(&identity.cert, &(cert.pem() + &self.chain), 0o644)?;
        write(&identity.key, &key.serialize_pem(), 0o600)?;
        Ok(identity)
    }
}

fn params(names: &[&str], common_name: &str, validity: Validity) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(rejected)?;
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let (from, to) = match validity {
        Validity::Now => (2020, 2098),
        Validity::Past => (2020, 2021),
        Validity::Future => (2097, 2098),
    };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    Ok(params)
}

fn authority(name: &str) -> Result<CertificateParams> {
    let mut params = params(&[], name, Validity::Now)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn write(path: &Path, pem: &str, mode: u32) -> Result<()> {
    fs::write(path, pem).map_err(find::io)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(find::io)
}

fn rejected(error: rcgen::Error) -> Error {
    Error::failed("a certificate cannot be made").source_err(error)
}
