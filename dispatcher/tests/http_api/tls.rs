//! TLS of the API: who trusts the authority gets through; a renewed certificate is shown without a restart.

#![expect(clippy::unwrap_used, reason = "a failure here is the test's")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use reqwest::Client;
use tidemill_common::service::Shutdown;
use tidemill_dispatcher::http;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

/// `NAME.crt` and `NAME.key`, signed by themselves, for `localhost`.
fn certificate(directory: &Path, name: &str) {
    let words = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={name} \
         -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE \
         -keyout {name}.key -out {name}.crt"
    );
    let output = Command::new("openssl").args(words.split_whitespace()).current_dir(directory).output();
    let output = output.expect("this test needs the openssl command: install openssl");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A client that trusts this certificate and no other, with a new connection for each request.
fn client(certificate: &Path) -> Client {
    let pem = std::fs::read(certificate).unwrap();
    Client::builder()
        .tls_built_in_root_certs(false)
        .add_root_certificate(reqwest::Certificate::from_pem(&pem).unwrap())
        .pool_max_idle_per_host(0)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_at_once() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    for name in ["first", "second"] {
        certificate(directory.path(), name);
    }
    let (cert, key) = (file("tls.crt"), file("tls.key"));
    std::fs::copy(file("first.crt"), &cert).unwrap();
    assert!(http::acceptor(&cert, &key).err().unwrap().to_string().contains("tls.key"), "there is no key");
    std::fs::copy(file("second.key"), &key).unwrap();
    assert!(http::acceptor(&cert, &key).err().unwrap().to_string().contains("not usable"), "another's key");
    std::fs::copy(file("first.key"), &key).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let url = format!("https://localhost:{}/", address.port());
    let shutdown = Shutdown::new();
    let router = Router::new().route("/", get(|| async { "here" }));
    let acceptor = http::acceptor(&cert, &key).unwrap();
    #[expect(clippy::disallowed_methods, reason = "the test is the process")]
    let serving = tokio::spawn(http::serve(listener, Some(acceptor), router, shutdown.clone()));
    let (first, second) = (client(&file("first.crt")), client(&file("second.crt")));
    let get = async |client: &Client| client.get(&url).send().await.ok()?.text().await.ok();
    assert_eq!(get(&first).await.as_deref(), Some("here"));
    assert_eq!(get(&second).await, None, "it is not the certificate that this one trusts");
    let plain = Client::new().get(url.replace("https", "http")).send().await;
    assert!(plain.is_err(), "there is no way without TLS");

    // Certificate and key are two files: in between they do not fit, and nothing changes.
    std::fs::copy(file("second.crt"), &cert).unwrap();
    assert_eq!(get(&first).await.as_deref(), Some("here"));
    std::fs::copy(file("second.key"), &key).unwrap();
    tidemill_common::testing::wait_for("the new one", Duration::from_secs(10), async || {
        get(&second).await.map(drop)
    })
    .await;
    // Anew: one that was here before resumes its session, and looks at no certificate.
    assert_eq!(get(&client(&file("first.crt"))).await, None);

    // Somebody who never says a word does not keep the process from leaving.
    let mut silent = TcpStream::connect(address).await.unwrap();
    assert_eq!(get(&second).await.as_deref(), Some("here"), "the silent one was accepted before");
    shutdown.begin();
    tokio::time::timeout(Duration::from_secs(5), serving).await.unwrap().unwrap().unwrap();
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0);
}
