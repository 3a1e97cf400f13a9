//! TLS in front of a plain server, with a certificate of `tests/keys`.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::{AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{WantsServerCert, WebPkiClientVerifier};
use tokio_rustls::rustls::{ConfigBuilder, RootCertStore, ServerConfig};

/// The file of this name in `tests/keys`.
pub(crate) fn key_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
}

fn with_certificate(config: ConfigBuilder<ServerConfig, WantsServerCert>, name: &str) -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(key_file(&format!("{name}.pem"))).unwrap();
    let key = PrivateKeyDer::from_pem_file(key_file("tls.private.pem")).unwrap();
    config.with_single_cert(vec![certificate], key).unwrap()
}

/// The TLS side of a server; it ends when it is dropped.
pub(crate) struct Tls {
    /// Its base URL, by the address 127.0.0.1.
    pub(crate) url: String,
    refusals: Arc<Mutex<Vec<String>>>,
    _server: JoinSet<()>,
}

impl Tls {
    /// Listens with the certificate in `tests/keys/<certificate>.pem`, and hands on what comes to `plain`.
    pub(crate) async fn before(plain: &str, certificate: &str) -> Self {
        let config = ServerConfig::builder().with_no_client_auth();
        Self::speaking(plain, with_certificate(config, certificate)).await
    }

    /// The same, and demands a certificate of the client.
    pub(crate) async fn demanding_a_certificate(plain: &str) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(key_file("tls-ca.pem")).unwrap()).unwrap();
        let verifier = WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap();
        let config = ServerConfig::builder().with_client_cert_verifier(verifier);
        Self::speaking(plain, with_certificate(config, "tls-valid")).await
    }

    /// The same, and agrees to nothing but HTTP/2.
    pub(crate) async fn of_http2_alone(plain: &str) -> Self {
        let config = ServerConfig::builder().with_no_client_auth();
        let mut config = with_certificate(config, "tls-valid");
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::speaking(plain, config).await
    }

    async fn speaking(plain: &str, config: ServerConfig) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let plain = plain.strip_prefix("http://").unwrap().to_owned();
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let noted = Arc::clone(&refusals);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, plain, noted) = (acceptor.clone(), plain.clone(), Arc::clone(&noted));
                connections.spawn(async move {
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(mut stream) => {
                            let mut plain = TcpStream::connect(plain).await.unwrap();
                            // Whoever hangs up has had enough.
                            drop(copy_bidirectional(&mut stream, &mut plain).await);
                        }
                        Err((error, mut stream)) => {
                            noted.lock().push(error.to_string());
                            // What was not read would reset the connection, and the alert with it.
                            drop(stream.shutdown().await);
                            drop(copy(&mut stream, &mut sink()).await);
                        }
                    }
                });
            }
        });
        Self { url, refusals, _server: server }
    }

    /// What clients said that did not take the certificate, one alert each.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.refusals.lock().clone()
    }
}
