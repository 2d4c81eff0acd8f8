use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

use super::*;

fn layer(id: &str, progress: Progress) -> Layer {
    Layer { id: id.to_owned(), progress }
}

/// Lines as Podman 4.3.1 sent them.
#[test]
fn parses_progress_lines() {
    let line = r#"{"status":"Downloading","progressDetail":{"current":15302236,"total":30004259},"progress":"[==>  ] 15.3MB/30MB","id":"b1ecb8c68966"}"#;
    let bytes = Progress::Bytes { current: 15_302_236, total: 30_004_259 };
    assert_eq!(parse(line).unwrap(), Item::Layer(layer("b1ecb8c68966", bytes)));
    let line = r#"{"status":"Pulling fs layer","progressDetail":{},"id":"40057ab56190"}"#;
    assert_eq!(parse(line).unwrap(), Item::Layer(layer("40057ab56190", Progress::Seen)));
    let line = r#"{"progressDetail":{},"errorDetail":{"message":"m"},"error":"m"}"#;
    assert_eq!(parse(line).unwrap(), Item::Failed("m".to_owned()));
    assert!(parse("<html>").is_err());
}

#[test]
fn the_percentage_never_falls_and_100_is_kept_for_the_end() {
    let mut layers = Layers::default();
    assert_eq!(layers.update(layer("a", Progress::Seen)), None);
    assert!(!layers.complete());
    assert_eq!(layers.update(layer("a", Progress::Bytes { current: 50, total: 100 })), Some(50));
    // One more layer: the true share is now lower, what is shown is not.
    assert_eq!(layers.update(layer("b", Progress::Bytes { current: 0, total: 900 })), None);
    assert_eq!(layers.update(layer("b", Progress::Bytes { current: 890, total: 900 })), Some(94));
    assert_eq!(layers.update(layer("a", Progress::Done)), Some(99));
    assert_eq!(layers.update(layer("b", Progress::Done)), None);
    assert!(layers.complete());
}

proptest! {
    #[test]
    fn any_progress_numbers_give_a_rising_percentage_below_100(
        steps in proptest::collection::vec((0u8..4, any::<u64>(), any::<u32>(), any::<bool>()), 0..50)
    ) {
        let mut layers = Layers::default();
        let mut last = 0;
        for (id, current, total, done) in steps {
            let progress = if done { Progress::Done } else {
                Progress::Bytes { current, total: u64::from(total) }
            };
            if let Some(percent) = layers.update(layer(&id.to_string(), progress)) {
                prop_assert!(percent > last && percent < 100);
                last = percent;
            }
        }
    }

    #[test]
    fn arbitrary_lines_do_not_panic(line: String) {
        let _ = parse(&line);
    }
}

/// Answers one request with `head` and then `body`, and keeps the connection open if asked.
async fn pull_from(head: &str, body: &'static [u8], hang: bool) -> ContainersError {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let head = format!("HTTP/1.1 {head}\r\nconnection: close\r\n\r\n");
    let server = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).await.unwrap();
            let request_line = String::from_utf8_lossy(&request[..read]);
            if request_line.starts_with("GET /v4.0.0/libpod/images/") {
                let absent = b"HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n{}";
                stream.write_all(absent).await.unwrap();
                continue;
            }
            assert!(
                request_line
                    .contains("POST /v1.41/images/create?fromImage=ghcr.io%2Facme%2Fweb%3Av1 HTTP")
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            stream.write_all(body).await.unwrap();
            if hang {
                let _ = stream.read(&mut request).await;
            }
        }
    });
    let limits = PullLimits {
        no_progress: Duration::from_millis(200),
        max_image: 1_000_000,
        ..PullLimits::default()
    };
    let image = ImageReference::parse("ghcr.io/acme/web:v1").unwrap();
    let transport = Transport::new(socket);
    let error = pull(&transport, &limits, None, &image, None, &|_| ()).await.unwrap_err();
    server.abort();
    error
}

fn code(error: ContainersError) -> String {
    match error {
        ContainersError::Image(failure)
        | ContainersError::Registry(failure)
        | ContainersError::Full(failure) => failure.code,
        other => panic!("{other}"),
    }
}

/// `fm_31`: the status is 200, the failure is in the stream.
#[tokio::test]
async fn fm_31_an_error_inside_a_200_is_a_failure() {
    let body = b"{\"status\":\"Pulling fs layer\",\"id\":\"a\"}\n\
        {\"error\":\"reading manifest v1 in ghcr.io/acme/web: manifest unknown\"}\n";
    assert_eq!(code(pull_from("200 OK", body, false).await), "image_not_found");
}

#[tokio::test]
async fn an_error_status_gives_the_same_failure_code() {
    let body = br#"{"cause":"x","message":"manifest unknown","response":500}"#;
    let error = pull_from("500 Internal Server Error", body, false).await;
    assert_eq!(code(error), "image_not_found");
}

/// `fm_32`: nothing more arrives, and the connection stays open.
#[tokio::test]
async fn fm_32_a_stalled_pull_is_given_up() {
    let body = b"{\"status\":\"Pulling fs layer\",\"id\":\"a\"}\n";
    assert_eq!(code(pull_from("200 OK", body, true).await), "pull_stalled");
}

/// The sizes that the registry names are summed as layers begin, even if they are false.
#[tokio::test]
async fn fm_34_a_pull_ends_once_its_reported_sizes_are_too_large() {
    let named = b"{\"status\":\"Downloading\",\"id\":\"a\",\"progressDetail\":{\"current\":1,\"total\":600000}}\n\
        {\"status\":\"Downloading\",\"id\":\"b\",\"progressDetail\":{\"current\":1,\"total\":600000}}\n";
    assert_eq!(code(pull_from("200 OK", named, true).await), "image_too_large");
    let lying = b"{\"status\":\"Downloading\",\"id\":\"a\",\"progressDetail\":{\"current\":1000001,\"total\":-1}}\n";
    assert_eq!(code(pull_from("200 OK", lying, true).await), "image_too_large");
}
