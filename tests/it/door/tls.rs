//! Listeners with a certificate: both protocols are spoken, and a hello has the deadline of a head.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{Gateway, Origin, Raw, get, one_route};

/// A certificate of its own, made by the `openssl` program.
fn certificate() -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(dir.path())
        .output()
        .expect("the program openssl");
    assert!(made.status.success(), "{made:?}");
    dir
}

fn start(origin: &Origin, files: &TempDir) -> Gateway {
    let files = files.path().display();
    let secure = format!(
        "    - {{name: secure, address: \"127.0.0.1:0\", tls: {{certificate: \"{files}/certificate.pem\", key: \"{files}/key.pem\"}}}}
  limits: {{header_timeout: 1s}}"
    );
    let route = "  - {name: secure, match: {path: \"/**\"}, listener: secure, upstream: origin}";
    Gateway::start(&one_route(origin.address, &secure, "", "").replace("routes:\n", &format!("routes:\n{route}\n")))
}

/// What comes back over TLS for these bytes.
fn over_tls(gateway: &Gateway, offered: &[&str], request: &str) -> String {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &gateway.address("secure").to_string()])
        .args(offered)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program openssl");
    let mut input = client.stdin.take().expect("stdin is a pipe");
    input.write_all(request.as_bytes()).expect("write");
    let output = client.wait_with_output().expect("its end");
    drop(input);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn http_1_is_spoken_over_tls_with_and_without_alpn() {
    let (origin, files) = (Origin::ok(), certificate());
    let gateway = start(&origin, &files);
    let request = "GET /secure HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for offered in [&[][..], &["-alpn", "http/1.1"]] {
        let answer = over_tls(&gateway, offered, request);
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("ok"), "{offered:?}: {answer}");
    }
    let seen = origin.seen();
    assert!(seen.len() == 2 && seen.iter().all(|seen| seen.header("x-forwarded-proto") == Some("https")), "{seen:?}");
    // Where no certificate is named, nothing has changed.
    assert_eq!(get(gateway.public(), "/", "").status, 200);
}

#[test]
fn a_hello_that_does_not_come_or_drips_is_not_waited_for() {
    let (origin, files) = (Origin::ok(), certificate());
    let gateway = start(&origin, &files);
    let half = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    for said in [&b""[..], half] {
        let mut raw = Raw::connect(gateway.address("secure"));
        raw.send(said);
        assert!(raw.closed_within(Duration::from_secs(4)).is_some(), "open after {} bytes", said.len());
    }
    // What is no TLS at all is told so, and not waited for either.
    let mut raw = Raw::connect(gateway.address("secure"));
    raw.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(raw.closed_within(Duration::from_secs(4)).is_some());
    let mut drip = Raw::connect(gateway.address("secure"));
    drip.send(half);
    let start = std::time::Instant::now();
    while drip.send(b"\0") && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}
