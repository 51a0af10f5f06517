//! The command line: what it prints, and how it ends.

use std::{
    net::SocketAddr,
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::{
    app::{KEY, Setup, TestApp},
    pipelines_cli::printed,
    place::program,
    receiver::Receiver,
    tls::certify,
};

/// Runs a command whose output nobody reads.
async fn unread(mut command: Command) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    command.stdout(writer).stderr(Stdio::piped());
    let output =
        tokio::task::spawn_blocking(move || command.spawn().expect("the program").wait_with_output());
    let output = output.await.expect("no panic").expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_command_whose_reader_has_enough_ends_in_peace() {
    let app = TestApp::start().await;
    let folder = app.folder.path();
    for line in
        ["openapi", "check-config", "project list", "project list --json", "key list acme", "audit --json"]
    {
        let arguments: Vec<_> = line.split(' ').collect();
        assert_eq!(unread(program(folder, &arguments)).await, (Some(0), String::new()), "{line}");
    }
}

/// A folder with these images in a folder `photos`.
fn desk(images: &[(&str, &str)]) -> TempDir {
    let desk = tempfile::tempdir().expect("a folder");
    for (name, content) in images {
        let path = desk.path().join("photos").join(name);
        std::fs::create_dir_all(path.parent().expect("photos")).expect("a folder");
        std::fs::write(path, content).expect("a file");
    }
    desk
}

/// Runs a command against the server that variables name.
async fn asked(desk: &Path, (server, key): (&str, &str), line: &str) -> Output {
    let mut command = program(desk, &line.split(' ').collect::<Vec<_>>());
    command.env("EYEBOLT_SERVER", server).env("EYEBOLT_KEY", key).env("SSL_CERT_FILE", desk.join("ca.pem"));
    tokio::task::spawn_blocking(move || command.output()).await.expect("no panic").expect("the program runs")
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn url(app: &TestApp) -> String {
    format!("http://{}", app.address)
}

#[tokio::test]
async fn of_several_images_each_line_names_its_file_and_one_that_is_missing_stops_nothing() {
    let app = TestApp::start().await;
    let desk = desk(&[("a.png", "cat"), ("deep/b.png", "empty"), ("c.png", "dark")]);
    let ask = async |line: &str| asked(desk.path(), (&url(&app), KEY.reveal()), line).await;
    let output = ask("analyze photos -r gone.png").await;
    assert_eq!(output.status.code(), Some(3), "{}", told(&output));
    let lines = printed(&output);
    let of = |line: &serde_json::Value| {
        (line["file"].clone(), line["job"]["status"].clone(), line["error"]["code"].clone())
    };
    assert_eq!(
        lines.iter().map(of).collect::<Vec<_>>(),
        [
            ("photos/a.png".into(), "succeeded".into(), ().into()),
            ("photos/c.png".into(), ().into(), "too_dark".into()),
            ("photos/deep/b.png".into(), ().into(), "empty_file".into()),
            ("gone.png".into(), ().into(), "unreadable_file".into()),
        ]
    );
    assert_eq!(told(&output), "eyebolt: 3 of 4 images failed\n");
    let one = ask("analyze photos/a.png").await;
    assert_eq!((one.status.code(), &printed(&one)[0]["object"]), (Some(0), &"job".into()));
    let refused = ask("analyze photos/c.png").await;
    assert_eq!((refused.status.code(), &printed(&refused)[0]["code"]), (Some(3), &"too_dark".into()));
    let gone = ask("analyze gone.png").await;
    assert!(
        gone.status.code() == Some(1) && told(&gone).contains("gone.png can't be read"),
        "{}",
        told(&gone)
    );
}

#[tokio::test]
async fn a_job_that_is_answered_later_is_waited_for() {
    let mut setup = Setup::default();
    setup.rules.jobs.max_wait = Duration::ZERO;
    let mut app = TestApp::set_up(setup).await;
    let desk = desk(&[("a.png", "wait")]);
    let (server, path) = (url(&app), desk.path().to_owned());
    let asks =
        tokio::spawn(async move { asked(&path, (&server, KEY.reveal()), "analyze photos/a.png").await });
    assert_eq!(app.running.recv().await, Some(true));
    app.release();
    let output = asks.await.expect("no panic");
    assert_eq!((output.status.code(), &printed(&output)[0]["status"]), (Some(0), &"succeeded".into()));
}

#[tokio::test]
async fn a_folder_with_a_wrong_key_is_told_once_and_sent_no_further() {
    let app = TestApp::start().await;
    let desk = desk(&[("a.png", "cat"), ("b.png", "cat 2"), ("c.png", "cat 3")]);
    let output = asked(desk.path(), (&url(&app), "eb_live_wrong"), "analyze photos").await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    let said = told(&output);
    assert!(said.starts_with("eyebolt: stopped after 0 of 3 images: invalid_api_key: "), "{said}");
    assert!(said.contains("Set EYEBOLT_KEY or --key"), "{said}");
}

#[tokio::test]
async fn what_passes_is_asked_again_with_the_same_key_and_what_does_not_is_told() {
    let mut receiver = Receiver::start().await;
    let desk = desk(&[("a.png", "cat")]);
    let (server, path) = (format!("http://{}", receiver.address), desk.path().to_owned());
    let asks = tokio::spawn(async move { asked(&path, (&server, "k"), "analyze photos/a.png").await });
    let busy = receiver.next().await;
    let intent = busy.headers["idempotency-key"].clone();
    busy.answer_with(503, "retry-after: 0\r\n");
    let lost = receiver.next().await;
    assert_eq!(lost.headers["idempotency-key"], intent);
    drop(lost);
    let last = receiver.next().await;
    assert_eq!(
        (&last.headers["idempotency-key"], &last.headers["authorization"]),
        (&intent, &"Bearer k".to_owned())
    );
    last.answer(418);
    let output = asks.await.expect("no panic");
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("status 418"), "{}", told(&output));
    assert!(receiver.come().is_none(), "it is no server: it is not asked again");
}

#[tokio::test]
async fn a_server_may_be_a_part_of_a_site() {
    let mut receiver = Receiver::start().await;
    let desk = desk(&[("a.png", "cat")]);
    for (path, asked_for) in [("/vision/", "/vision/v1/analyze"), ("/", "/v1/analyze")] {
        let (server, folder) = (format!("http://{}{path}", receiver.address), desk.path().to_owned());
        let asks = tokio::spawn(async move { asked(&folder, (&server, "k"), "analyze photos/a.png").await });
        let come = receiver.next().await;
        let target = come.target.split(['?', ' ']).nth(1);
        assert_eq!(target, Some(asked_for));
        come.answer(418);
        asks.await.expect("no panic");
    }
    let searched = asked(desk.path(), ("http://localhost/?vision", "k"), "analyze photos/a.png").await;
    assert!(told(&searched).contains("has no query"), "{}", told(&searched));
}

#[tokio::test]
async fn a_batch_that_was_accepted_is_no_failure_and_a_problem_is_no_result() {
    let app = TestApp::start().await;
    let desk = desk(&[("a.png", "cat"), ("b.png", "empty")]);
    let ask = async |line: &str| asked(desk.path(), (&url(&app), KEY.reveal()), line).await;
    let waited = ask("batch create photos").await;
    assert_eq!(waited.status.code(), Some(3), "{}", told(&waited));
    assert_eq!(printed(&waited)[0]["counts"]["failed"], 1);
    let detached = ask("batch create photos --detach").await;
    assert_eq!((detached.status.code(), printed(&detached).len()), (Some(0), 1));
    let id = printed(&waited)[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(printed(&ask(&format!("batch results {id}")).await).len(), 1);
    let unknown = ask("batch results batch_01981f3a000070008000000000000000").await;
    assert_eq!((unknown.status.code(), unknown.stdout.len()), (Some(1), 0));
    assert!(told(&unknown).contains("batch_not_found"), "{}", told(&unknown));
}

/// A proxy that speaks TLS, with the certificate of a folder, before a server. Its port.
async fn proxy(folder: &Path, server: SocketAddr) -> u16 {
    let certificates = CertificateDer::pem_file_iter(folder.join("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config =
        config.with_no_client_auth().with_single_cert(certificates.map(Result::unwrap).collect(), key);
    let acceptor = TlsAcceptor::from(Arc::new(config.unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut behind = TcpStream::connect(server).await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut stream = acceptor.accept(stream).await?;
                tokio::io::copy_bidirectional(&mut stream, &mut behind).await
            });
        }
    });
    port
}

#[tokio::test]
async fn a_server_behind_a_proxy_is_asked_over_tls_and_believed_by_its_certificate() {
    let app = TestApp::start().await;
    let desk = desk(&[("a.png", "cat")]);
    certify(desk.path());
    let port = proxy(desk.path(), app.address).await;
    let server = |host: &str| format!("https://{host}:{port}");
    let output = asked(desk.path(), (&server("localhost"), KEY.reveal()), "analyze photos/a.png").await;
    assert!(output.status.success(), "{}", told(&output));
    let other = asked(desk.path(), (&server("127.0.0.1"), KEY.reveal()), "analyze photos/a.png").await;
    assert_eq!((other.status.code(), other.stdout.len()), (Some(1), 0));
    assert!(told(&other).contains("certificate"), "{}", told(&other));
    let strange =
        asked(desk.path(), ("ftp://localhost", "k"), "batch status batch_01981f3a000070008000000000000000");
    assert!(told(&strange.await).contains("it begins with http:// or https://"));
}
