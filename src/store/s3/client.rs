//! The client: who speaks to the bucket, through what, and how patiently.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    Credentials, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
    StalledStreamProtectionConfig,
};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, Connector};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::sync::Mutex;

use crate::domain::bucket::{Bucket, Login};
use crate::store::StoreError;

/// Nobody pauses longer between two attempts.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// Makes the client at the first request, and again when its credentials ran out.
#[derive(Debug)]
pub(super) struct Speaker {
    bucket: Arc<Bucket>,
    login: Login,
    client: Mutex<Option<Client>>,
    http: OnceLock<SharedHttpClient>,
}

impl Speaker {
    pub(super) fn new(bucket: Arc<Bucket>, login: Login) -> Speaker {
        Speaker { bucket, login, client: Mutex::new(None), http: OnceLock::new() }
    }

    /// The client.
    pub(super) async fn client(&self) -> Result<Client, StoreError> {
        let mut client = self.client.lock().await;
        match &*client {
            Some(client) => Ok(client.clone()),
            None => {
                let new = self.make().await?;
                *client = Some(new.clone());
                Ok(new)
            }
        }
    }

    /// The next request is made with credentials that are fetched anew.
    pub(super) async fn forget(&self) {
        *self.client.lock().await = None;
    }

    fn unusable(&self, why: String) -> StoreError {
        StoreError::Unusable { store: self.bucket.url(), why }
    }

    async fn make(&self) -> Result<Client, StoreError> {
        let shared = self.shared().await?;
        let mut config = aws_sdk_s3::config::Builder::from(&shared).force_path_style(self.bucket.path_style);
        if shared.region().is_none() {
            // Servers that are not Amazon's want one in the signature, and take any.
            if self.bucket.endpoint.is_none() {
                let why = "no region is known: write region = \"…\", or set AWS_REGION".to_owned();
                return Err(self.unusable(why));
            }
            config = config.region(Region::from_static("us-east-1"));
        }
        if let Some(role) = &self.login.role {
            let mut provider = AssumeRoleProvider::builder(role).session_name("lifeboat").configure(&shared);
            if let Some(id) = &self.login.external_id {
                provider = provider.external_id(id);
            }
            config = config.credentials_provider(provider.build().await);
        }
        Ok(Client::from_conf(config.build()))
    }

    async fn shared(&self) -> Result<SdkConfig, StoreError> {
        let patience = &self.bucket.patience;
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(patience.connect.to_std())
            .read_timeout(patience.read.to_std())
            .operation_timeout(patience.operation.to_std())
            .build();
        let http = self.http()?;
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .timeout_config(timeouts)
            .retry_config(
                RetryConfig::standard()
                    .with_max_attempts(patience.attempts)
                    .with_initial_backoff(patience.backoff.to_std())
                    .with_max_backoff(LONGEST_PAUSE),
            )
            // Bytes that stop coming are noticed where they are read; the end of one attempt, by the read timeout.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        if let Some(region) = &self.bucket.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if self.login.profile.is_some() || self.login.file.is_some() {
            // Not by the chain, in which the environment comes first: what was named is meant.
            let name = self.login.profile.as_deref().unwrap_or("default");
            let mut provider = ProfileFileCredentialsProvider::builder().profile_name(name);
            loader = loader.profile_name(name);
            if let Some(path) = &self.login.file {
                self.must_be_private(path)?;
                let files = EnvConfigFiles::builder().with_file(EnvConfigFileKind::Credentials, path).build();
                provider = provider.profile_files(files.clone());
                loader = loader.profile_files(files);
            }
            loader = loader.credentials_provider(provider.build());
        }
        if let Some(endpoint) = &self.bucket.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        if !self.bucket.checksums {
            loader = loader
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
                .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
        }
        if let Some((key, secret)) = &self.login.env {
            let value = |name: &str| {
                std::env::var(name).ok().filter(|value| !value.is_empty()).ok_or_else(|| {
                    self.unusable(format!("the environment variable {name}, which holds its credentials, is not set"))
                })
            };
            loader = loader.credentials_provider(Credentials::new(value(key)?, value(secret)?, None, None, "lifeboat"));
        }
        Ok(loader.load().await)
    }

    fn must_be_private(&self, path: &Path) -> Result<(), StoreError> {
        let meta = std::fs::metadata(path)
            .map_err(|error| self.unusable(format!("its file of credentials {}: {error}", path.display())))?;
        if meta.permissions().mode() & 0o077 != 0 {
            let why = format!("others can read its file of credentials {}: chmod 600 it", path.display());
            return Err(self.unusable(why));
        }
        Ok(())
    }

    /// One pool of connections, whatever becomes of the credentials.
    fn http(&self) -> Result<SharedHttpClient, StoreError> {
        if let Some(http) = self.http.get() {
            return Ok(http.clone());
        }
        let trusted = match &self.bucket.ca {
            None => TrustStore::default(),
            Some(path) => {
                let why = |error: &dyn std::fmt::Display| self.unusable(format!("its ca {}: {error}", path.display()));
                let pem = std::fs::read(path).map_err(|error| why(&error))?;
                let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem)
                    .collect::<Result<_, _>>()
                    .map_err(|error: rustls_pki_types::pem::Error| why(&error))?;
                if certificates.is_empty() {
                    return Err(why(&"it holds no certificate in PEM form"));
                }
                TrustStore::empty().with_pem_certificate(pem)
            }
        };
        let tls = TlsContext::builder()
            .with_trust_store(trusted)
            .build()
            .map_err(|error| self.unusable(format!("TLS cannot be set up: {error}")))?;
        let http = Builder::new().build_with_connector_fn(move |settings, components| {
            let mut connector = Connector::builder().proxy_config(ProxyConfig::from_env()).enable_tcp_nodelay(true);
            connector.set_connector_settings(settings.cloned());
            connector.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            connector.tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls.clone()).build()
        });
        Ok(self.http.get_or_init(|| http).clone())
    }
}
