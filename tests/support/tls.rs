//! TLS in front of a plain server, with a certificate of `tests/keys`.

use parking_lot::Mutex;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The file of this name in `tests/keys`.
pub(crate) fn key_file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/keys").join(name)
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
        let certificate = CertificateDer::from_pem_file(key_file(&format!("{certificate}.pem"))).unwrap();
        let key = PrivateKeyDer::from_pem_file(key_file("tls.private.pem")).unwrap();
        let config = ServerConfig::builder().with_no_client_auth();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_single_cert(vec![certificate], key).unwrap()));
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
                    match acceptor.accept(stream).await {
                        Ok(mut stream) => {
                            let mut plain = TcpStream::connect(plain).await.unwrap();
                            // Whoever hangs up has had enough.
                            drop(copy_bidirectional(&mut stream, &mut plain).await);
                        }
                        Err(error) => noted.lock().push(error.to_string()),
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
