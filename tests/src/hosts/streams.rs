//! Streams that nobody reads, that break, and that are late: each costs its caller something and
//! nobody else anything.

use std::io;

use buddo_agent::control::server::{Answer, Call, Refused, Router};
use buddo_coordinator::host_client::{CallError, Deadlines, ResponseBody};
use buddo_shared::api::problem::Problem;
use buddo_shared::host_wire::connection::{MAX_CALLS, MAX_PUSHES};
use futures_util::stream;
use http::{Method, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

const READS: usize = (MAX_CALLS - MAX_PUSHES) as usize;

/// The pieces that endless bodies consist of.
const PIECE: usize = 16 * 1024;
/// A short line of a log.
const SMALL_PIECE: usize = 40;

const LONG: Deadlines = Deadlines { head: PATIENCE, idle: None };

/// For endpoints that do not answer.
fn never() -> Refused {
    Box::new(Problem::new(500, "never", "Never", "nobody waits for this"))
}

/// What the endpoints of these tests have done.
#[derive(Clone, Default)]
struct Watched {
    /// Bytes of endless answers that were made.
    made: Arc<AtomicUsize>,
    /// Endless answers and calls that the agent has not ended.
    open: Arc<AtomicUsize>,
}

struct Open(Arc<AtomicUsize>);

impl Open {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(count))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Watched {
    fn routes(&self, routes: Router) -> Router {
        let (endless, silent, unread) = (self.clone(), self.clone(), self.clone());
        routes
            .route(Method::GET, "/test/{bytes}/endless", move |call: Call| {
                let answer = endless.endless(call.parameter("bytes").parse().unwrap());
                async move { Ok::<Answer, Refused>(answer) }
            })
            .route(Method::GET, "/test/silent", move |call: Call| {
                let open = Open::new(&silent.open);
                async move {
                    std::future::pending::<()>().await;
                    drop((open, call));
                    Err(never())
                }
            })
            .route(Method::PUT, "/test/unread", move |call: Call| {
                let open = Open::new(&unread.open);
                async move {
                    // Held and not read: the window of this stream stays used.
                    let body = call.into_body();
                    std::future::pending::<()>().await;
                    drop((open, body));
                    Err(never())
                }
            })
    }

    /// An answer of as many pieces as are read.
    fn endless(&self, piece: usize) -> Answer {
        let (made, open) = (Arc::clone(&self.made), Open::new(&self.open));
        let pieces = stream::unfold(open, move |open| {
            made.fetch_add(piece, Ordering::SeqCst);
            let piece = Frame::data(Bytes::from(vec![b'x'; piece]));
            std::future::ready(Some((Ok::<_, io::Error>(piece), open)))
        });
        Response::new(StreamBody::new(Box::pin(pieces)).boxed_unsync())
    }
}

async fn pair() -> (Pair, Watched) {
    let watched = Watched::default();
    let pair = Pair::with(|routes| watched.routes(routes)).await;
    (pair, watched)
}

/// Opens as many endless answers as one host may have, reads once of each and no more; and how much
/// was read.
async fn stalled(handle: &HostHandle, piece: usize) -> (Vec<ResponseBody>, usize) {
    let (mut stalled, mut read) = (Vec::new(), 0);
    for _ in 0..READS {
        let endless = get(&format!("/test/{piece}/endless"));
        let answer = handle.call("read on and on", endless, LONG).await.unwrap();
        let mut body = answer.into_body();
        let first = tokio::time::timeout(PATIENCE, body.frame()).await;
        let first = first.expect("a reader waits for others that stall").unwrap().unwrap();
        read += first.into_data().unwrap().len();
        stalled.push(body);
    }
    (stalled, read)
}

fn upload(body: RequestBody) -> Request<RequestBody> {
    Request::put("/test/unread").body(body).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_76_readers_that_stall_keep_no_document_and_no_report_waiting() {
    // Many small pieces cost more than their bytes: they must not end the connection.
    for piece in [PIECE, SMALL_PIECE] {
        stall(piece).await;
    }
}

async fn stall(piece: usize) {
    let (pair, watched) = pair().await;
    pair.document_arrives().await;
    let handle = pair.handle().await;
    let (mut stalled, read) = stalled(&handle, piece).await;
    let made = settled(&watched.made).await;
    // For each: the window, and two pieces or three on their way.
    let bound = read + READS * (64 * 1024 + 3 * PIECE);
    assert!(made <= bound, "{} KiB are held for {READS} readers", (made - read) / 1024);
    // Neither waits for any of them to go on: far sooner than a call's own deadline.
    let begun = tokio::time::Instant::now();
    for round in 0..3 {
        pair.document_arrives().await;
        pair.report_arrives(1000 + round).await;
    }
    assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    assert!(watched.made.load(Ordering::SeqCst) <= bound);
    assert_eq!(pair.state.connections.get(pair.host).unwrap().since(), handle.since());
    // One more reader than there may be is told so, soon, and without any effect on the others.
    let more = handle.call("read as well", get("/test/100/endless"), LONG).await.unwrap_err();
    assert!(matches!(more, CallError::Busy { .. }), "{more}");
    assert!(more.to_string().contains("try again"), "{more}");
    // A stalled reader that goes on gets what was held for it, and more.
    let mut read = 0;
    while read < 1024 * 1024 {
        read += stalled[0].frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    // One that leaves makes room, and all of them leave nothing behind.
    stalled.pop();
    drop(handle.call("read as well", get("/test/100/endless"), LONG).await.unwrap());
    drop(stalled);
    until("ended", async || watched.open.load(Ordering::SeqCst) == 0).await;
    pair.document_arrives().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fm_76_uploads_that_nobody_reads_keep_no_document_waiting() {
    let (pair, watched) = pair().await;
    let handle = pair.handle().await;
    let sent = Arc::new(AtomicUsize::new(0));
    let uploads: Vec<_> = (0..READS)
        .map(|_| {
            let (handle, sent) = (handle.clone(), Arc::clone(&sent));
            AbortOnDropHandle::new(tokio::spawn(async move {
                let pieces = stream::repeat_with(move || {
                    sent.fetch_add(PIECE, Ordering::SeqCst);
                    Ok(Frame::data(Bytes::from(vec![b'x'; PIECE])))
                });
                let body = StreamBody::new(pieces).boxed_unsync();
                handle.call("send on and on", upload(body), LONG).await.map(drop)
            }))
        })
        .collect();
    until("open", async || watched.open.load(Ordering::SeqCst) == READS).await;
    let taken = settled(&sent).await;
    // The agent's window, the send buffer here, and a piece.
    let bound = READS * (2 * 128 * 1024 + 2 * PIECE);
    assert!(taken <= bound, "{} KiB are held for {READS} uploads", taken / 1024);
    for round in 0..3 {
        pair.document_arrives().await;
        pair.report_arrives(1000 + round).await;
    }
    // Their callers leave, though not one byte more could be sent: the agent notices.
    drop(uploads);
    until("ended", async || watched.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_stands_still_ends_with_a_reason() {
    let (pair, watched) = pair().await;
    let handle = pair.handle().await;
    let idle = Some(Duration::from_millis(200));
    let deadlines = Deadlines { head: PATIENCE, idle };
    // Its source has nothing to say.
    let body = StreamBody::new(stream::pending()).boxed_unsync();
    let stuck = handle.call("send a file", upload(body), deadlines).await.unwrap_err();
    assert!(matches!(stuck, CallError::Idle { .. }), "{stuck}");
    // Its source fails.
    let failed = Err(io::Error::other("the disk is gone").into());
    let body = StreamBody::new(stream::iter([failed])).boxed_unsync();
    let failed = handle.call("send a file", upload(body), deadlines).await.unwrap_err();
    let CallError::Upload { source, .. } = failed else { panic!("{failed}") };
    assert_eq!(source.to_string(), "the disk is gone");
    // The agent does not read on.
    let pieces = stream::repeat_with(|| Ok(Frame::data(Bytes::from(vec![b'x'; PIECE]))));
    let body = StreamBody::new(pieces).boxed_unsync();
    let stuck = handle.call("send a file", upload(body), deadlines).await.unwrap_err();
    assert!(matches!(stuck, CallError::Idle { .. }), "{stuck}");
    until("ended", async || watched.open.load(Ordering::SeqCst) == 0).await;
    pair.document_arrives().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_late_or_refused_says_so() {
    let (pair, watched) = pair().await;
    let handle = pair.handle().await;
    let soon = Deadlines { head: Duration::from_millis(200), idle: None };
    let late = handle.call("ask", get("/test/silent"), soon).await.unwrap_err();
    assert!(matches!(late, CallError::Deadline { within, .. } if within == soon.head), "{late}");
    until("ended", async || watched.open.load(Ordering::SeqCst) == 0).await;
    let refused = handle.call("ask", get("/test/nothing"), LONG).await.unwrap_err();
    let CallError::Refused { status, code, .. } = refused else { panic!("{refused}") };
    assert_eq!((status.as_u16(), &*code), (404, "no_such_endpoint"));
    let refused = handle.call("ask", get("/v1/desired-state"), LONG).await.unwrap_err();
    assert!(matches!(&refused, CallError::Refused { code, .. } if code == "method_not_allowed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_ends_the_stream_on_the_host() {
    let (pair, watched) = pair().await;
    let handle = pair.handle().await;
    let mut body = handle.call("read", get("/test/100/endless"), LONG).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(watched.open.load(Ordering::SeqCst), 1);
    drop(body);
    until("ended", async || watched.open.load(Ordering::SeqCst) == 0).await;
    let made = settled(&watched.made).await;
    assert_eq!(watched.made.load(Ordering::SeqCst), made);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_breaks_ends_its_calls_and_the_next_ones_say_since_when() {
    let (mut pair, _watched) = pair().await;
    let handle = pair.handle().await;
    let mut body = handle.call("read", get("/test/100/endless"), LONG).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let waiting = handle.clone();
    let waiting = tokio::spawn(async move { waiting.call("ask", get("/test/silent"), LONG).await });
    // Like a kill: listener and connections are gone.
    drop(pair.agent.take());
    let broken = loop {
        match body.frame().await.unwrap() {
            Ok(_) => {}
            Err(broken) => break broken,
        }
    };
    assert!(matches!(broken, CallError::Disconnected { .. }), "{broken}");
    assert!(body.frame().await.is_none(), "an error is the end");
    let broken = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(broken, CallError::Disconnected { .. }), "{broken}");
    until("noticed", async || {
        let call = handle.call("ask", get("/test/silent"), LONG).await;
        matches!(call, Err(CallError::NotConnected { .. }))
    })
    .await;
    until("away", async || {
        let away = pair.state.connections.get(pair.host);
        matches!(away, Err(CallError::NotConnected { since: Some(_), .. }))
    })
    .await;
    let away = pair.state.connections.get(pair.host).unwrap_err().to_string();
    assert!(away.contains("has not been connected since"), "{away}");
}
