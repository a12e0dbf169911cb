//! When a session is encrypted, and when it stays in the clear.

use std::sync::Arc;

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{Dialect, Encryption, testing::World};

const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Both ends of TLS.
fn ends() -> (TlsAcceptor, TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["example.org".to_owned()]).expect("a certificate");
    let certificate = CertificateDer::from(made.cert.der().to_vec());
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions();
    let server = server.expect("versions").with_no_client_auth().with_single_cert(vec![certificate.clone()], key);
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("it can be one");
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let client = client.expect("versions").with_root_certificates(roots).with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server.expect("its key"))), TlsConnector::from(Arc::new(client)))
}

#[tokio::test]
async fn a_wish_for_tls_with_words_behind_it_is_none() {
    let world = World::new();
    let (acceptor, connector) = ends();
    let mut wire = BufReader::new(world.served(Encryption::Offered(acceptor), Dialect::Smtp, HERE).await);
    let mut line = String::new();
    wire.read_line(&mut line).await.expect("a greeting");
    for (said, wanted) in
        [("STARTTLS now", "501 5.5.4"), ("RSET x", "501"), ("DATA x", "501"), ("QUIT x", "501"), ("NOOP x", "250")]
    {
        line.clear();
        wire.get_mut().write_all(format!("{said}\r\n").as_bytes()).await.expect("it listens");
        wire.read_line(&mut line).await.expect("an answer");
        assert!(line.starts_with(wanted), "{said}: {line}");
    }
    // Still in the clear, and TLS can still begin.
    line.clear();
    wire.get_mut().write_all(b"STARTTLS \r\n").await.expect("it listens");
    wire.read_line(&mut line).await.expect("an answer");
    assert!(line.starts_with("220"), "{line}");
    let name = ServerName::try_from("example.org").expect("a name");
    connector.connect(name, wire.into_inner()).await.expect("TLS begins");
}

#[tokio::test]
async fn where_tls_comes_first_all_is_said_in_it() {
    let world = World::new();
    let (acceptor, connector) = ends();
    for dialect in [Dialect::Smtp, Dialect::Lmtp] {
        let stream = world.served(Encryption::First(acceptor.clone()), dialect, HERE).await;
        let name = ServerName::try_from("example.org").expect("a name");
        let mut wire = BufReader::new(connector.connect(name, stream).await.expect("TLS begins"));
        let mut line = String::new();
        wire.read_line(&mut line).await.expect("a greeting");
        assert!(line.starts_with("220 "), "{line}");
        let hello = if dialect == Dialect::Smtp { "EHLO" } else { "LHLO" };
        wire.get_mut().write_all(format!("{hello} client.example\r\n").as_bytes()).await.expect("it listens");
        let mut offered = String::new();
        while !line.starts_with("250 ") {
            line.clear();
            wire.read_line(&mut line).await.expect("an answer");
            offered.push_str(&line);
        }
        assert!(!offered.contains("STARTTLS"), "{offered}");
        wire.get_mut().write_all(b"STARTTLS\r\n").await.expect("it listens");
        line.clear();
        wire.read_line(&mut line).await.expect("an answer");
        assert!(line.starts_with("502"), "{line}");
    }
    // Who speaks in the clear hears nothing.
    let mut plain = BufReader::new(world.served(Encryption::First(acceptor), Dialect::Smtp, HERE).await);
    plain.get_mut().write_all(b"EHLO client.example\r\n").await.expect("it listens");
    let mut heard = Vec::new();
    let _ = plain.read_until(b'\n', &mut heard).await;
    assert!(!heard.starts_with(b"2"), "{}", String::from_utf8_lossy(&heard));
}
