//! TLS in front of a plain server, with a certificate of `tests/keys`.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::io::{AsyncWriteExt as _, copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
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
    inside: Arc<Inside>,
    _server: JoinSet<()>,
}

#[derive(Default)]
struct Inside {
    refusals: Mutex<Vec<String>>,
    holds: AtomicBool,
    held: AtomicUsize,
    released: Notify,
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
        let inside = Arc::<Inside>::default();
        let shared = Arc::clone(&inside);
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, plain, inside) = (acceptor.clone(), plain.clone(), Arc::clone(&shared));
                connections.spawn(async move {
                    if inside.holds.load(Ordering::SeqCst) {
                        let released = inside.released.notified();
                        inside.held.fetch_add(1, Ordering::SeqCst);
                        released.await;
                    }
                    match acceptor.accept(stream).into_fallible().await {
                        Ok(mut stream) => {
                            let mut plain = TcpStream::connect(plain).await.unwrap();
                            // Whoever hangs up has had enough.
                            drop(copy_bidirectional(&mut stream, &mut plain).await);
                        }
                        Err((error, mut stream)) => {
                            inside.refusals.lock().push(error.to_string());
                            // What was not read would reset the connection, and the alert with it.
                            drop(stream.shutdown().await);
                            drop(copy(&mut stream, &mut sink()).await);
                        }
                    }
                });
            }
        });
        Self { url, inside, _server: server }
    }

    /// Whether a connection that comes from now on has to wait for its handshake.
    pub(crate) fn holds(&self, holds: bool) {
        self.inside.holds.store(holds, Ordering::SeqCst);
    }

    /// How many connections had to wait.
    pub(crate) fn held(&self) -> usize {
        self.inside.held.load(Ordering::SeqCst)
    }

    /// Shakes hands with all that wait.
    pub(crate) fn release(&self) {
        self.inside.released.notify_waiters();
    }

    /// What clients said that did not take the certificate, one alert each.
    pub(crate) fn refusals(&self) -> Vec<String> {
        self.inside.refusals.lock().clone()
    }
}
