//! The outbound client against real sockets on this machine.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn outbound(networks: &[&str]) -> Outbound {
    Outbound::new(networks.iter().map(|network| network.parse().unwrap()).collect()).unwrap()
}

fn get(url: &str) -> Request {
    Request {
        method: Method::GET,
        url: url.parse().unwrap(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: Duration::from_secs(10),
        max_response: 1000,
    }
}

/// A request that does not wait for long.
fn impatient(port: u16) -> Request {
    Request { timeout: Duration::from_millis(100), ..get(&format!("http://127.0.0.1:{port}/")) }
}

/// Serves one connection by `script` once the head of the request is there; returns the port.
async fn server<F: Future<Output = ()> + Send>(
    script: impl FnOnce(TcpStream, String) -> F + Send + 'static,
) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.windows(4).any(|four| four == b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        script(stream, String::from_utf8(head).unwrap()).await;
    });
    tasks.detach_all();
    port
}

async fn ask(networks: &[&str], answer: &'static str) -> Result<Answer, Failure> {
    let port =
        server(move |mut stream, _| async move { stream.write_all(answer.as_bytes()).await.unwrap() }).await;
    outbound(networks).send(&get(&format!("http://127.0.0.1:{port}/"))).await
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";

#[test]
fn every_spelling_of_a_private_address_is_refused_by_its_text() {
    let outbound = outbound(&[]);
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0x7f000001",
        "127.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "１２７.０.０.１",
        "127。0。0。1",
        "①②⑦.0.0.1",
        "%31%32%37.0.0.1",
        "0",
        "0.0.0.0",
        "10.1.2.3",
        "169.254.169.254",
        "192.168.0.1",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[fd00::1]",
        "[fe80::1]",
        "[64:ff9b::10.0.0.1]",
        "[2002:7f00:1::]",
        "[::ffff:8.8.8.8]",
    ] {
        for url in [format!("http://{host}/"), format!("https://{host}:8443/x?y"), format!("HTTP:\\\\{host}")]
        {
            let refused = outbound.check_url(&url).unwrap_err();
            assert!(refused.contains("not public"), "{url}: {refused}");
        }
    }
}

#[test]
fn only_plain_http_urls_are_taken() {
    let outbound = outbound(&[]);
    for url in ["https://example.org/hook", "http://8.8.8.8:81/", "http://[2606:4700::1]/", "http://例え.jp/"]
    {
        assert!(outbound.check_url(url).is_ok(), "{url}");
    }
    for (url, why) in [
        ("ftp://example.org", "http or https"),
        ("file:///etc/passwd", "http or https"),
        ("unix:/run/x.sock", "http or https"),
        ("http://user@example.org", "credentials"),
        ("http://:secret@example.org", "credentials"),
        ("http://", "cannot be read"),
        ("example.org", "cannot be read"),
        ("http://127.0.0.1:99999/", "cannot be read"),
        ("http://1.2.3.4.5/", "cannot be read"),
        ("http://[fe80::1%25eth0]/", "cannot be read"),
    ] {
        let refused = outbound.check_url(url).unwrap_err();
        assert!(refused.contains(why), "{url}: {refused}");
        assert!(!refused.contains("secret"));
    }
}

#[test]
fn an_allowance_opens_its_range_and_no_other() {
    let outbound = outbound(&["127.0.0.0/8", "fd00::/8"]);
    assert!(outbound.check_url("http://127.9.9.9/").is_ok());
    assert!(outbound.check_url("http://[fd12::1]/").is_ok());
    for closed in
        ["http://10.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/"]
    {
        assert!(outbound.check_url(closed).is_err(), "{closed}");
    }
}

#[tokio::test]
async fn a_private_server_is_reached_only_with_the_allowance() {
    assert!(matches!(ask(&[], OK).await, Err(Failure { cause: Cause::AddressNotAllowed, .. })));
    let answer = ask(&["127.0.0.0/8"], OK).await.unwrap();
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, &b"hi"[..]));
}

#[tokio::test]
async fn a_name_is_vetted_by_all_its_addresses() {
    let port = server(|mut stream, _| async move { stream.write_all(OK.as_bytes()).await.unwrap() }).await;
    let url = format!("http://localhost:{port}/");
    assert_eq!(outbound(&[]).send(&get(&url)).await.unwrap_err().cause, Cause::AddressNotAllowed);
    assert!(outbound(&["127.0.0.0/8", "::1/128"]).send(&get(&url)).await.is_ok());
    let unknown = outbound(&[]).send(&get("http://does-not-exist.invalid/")).await.unwrap_err();
    assert_eq!(unknown.cause, Cause::Dns);
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let answer = ask(&["127.0.0.0/8"], moved).await.unwrap();
    assert_eq!(answer.status, StatusCode::FOUND);
}

#[tokio::test]
async fn what_is_sent_is_what_was_asked_for() {
    let (seen, heard) = tokio::sync::oneshot::channel();
    let port = server(|mut stream, head| async move {
        let mut body = [0; 4];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(OK.as_bytes()).await.unwrap();
        seen.send(format!("{head}{}", String::from_utf8_lossy(&body))).unwrap();
    })
    .await;
    let mut request = get(&format!("http://127.0.0.1:{port}/hook?a=b"));
    request.method = Method::POST;
    request.headers.insert("webhook-id", "m1".parse().unwrap());
    request.body = Bytes::from_static(b"body");
    outbound(&["127.0.0.0/8"]).send(&request).await.unwrap();
    let sent = heard.await.unwrap();
    assert!(sent.starts_with("POST /hook?a=b HTTP/1.1\r\n") && sent.ends_with("\r\n\r\nbody"), "{sent}");
    assert!(sent.contains("webhook-id: m1\r\n") && sent.contains("content-length: 4\r\n"), "{sent}");
    assert!(!sent.contains("accept-encoding"), "{sent}");
}

#[tokio::test]
async fn what_may_not_be_sent_any_more_when_its_connection_is_there_is_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut request = get(&format!("http://{}/", listener.local_addr().unwrap()));
    request.method = Method::POST;
    request.body = Bytes::from_static(b"body");
    let outbound = outbound(&["127.0.0.0/8"]);
    let (answer, came) = tokio::join!(outbound.send_while(&request, || false), async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut came = Vec::new();
        stream.read_to_end(&mut came).await.unwrap();
        came
    });
    assert_eq!((answer.is_none(), came), (true, Vec::new()));
    assert_next_is_ours(&listener).await;
    // On a connection that is there already it is no other.
    let (sent, came) = tokio::join!(
        async {
            let first = outbound.send_while(&request, || true).await.unwrap().unwrap();
            (first.body, outbound.send_while(&request, || false).await.is_none())
        },
        async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut first = Vec::new();
            while !first.ends_with(b"\r\n\r\nbody") {
                first.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
            let mut second = Vec::new();
            stream.read_to_end(&mut second).await.unwrap();
            second
        }
    );
    assert_eq!((sent, came), (("hi".into(), true), Vec::new()));
    assert_next_is_ours(&listener).await;
}

/// That nobody has connected to `listener` since: the next connection that it hands out is one made here.
async fn assert_next_is_ours(listener: &TcpListener) {
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (_, next) = listener.accept().await.unwrap();
    assert_eq!(next, ours.local_addr().unwrap(), "it was tried anew");
}

#[tokio::test]
async fn a_large_answer_is_cut_off_whether_declared_or_not() {
    let declared = ask(&["127.0.0.0/8"], "HTTP/1.1 200 OK\r\ncontent-length: 1001\r\n\r\n").await;
    assert_eq!(declared.unwrap_err(), Failure::too_large(StatusCode::OK, 1000));
    let port = server(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 100]).await.is_ok() {}
    })
    .await;
    let endless = outbound(&["127.0.0.0/8"]).send(&get(&format!("http://127.0.0.1:{port}/"))).await;
    assert_eq!(endless.unwrap_err(), Failure::too_large(StatusCode::OK, 1000));
}

#[tokio::test]
async fn a_server_that_hangs_or_drips_runs_into_the_timeout() {
    let port = server(|stream, _| async move {
        let _open = stream;
        std::future::pending::<()>().await;
    })
    .await;
    let hangs = outbound(&["127.0.0.0/8"]).send(&impatient(port)).await;
    assert_eq!(hangs.unwrap_err(), Failure::timeout(None));
    let port = server(|mut stream, _| async move {
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n").await.unwrap();
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        while stream.write_all(b"x").await.is_ok() {
            tick.tick().await;
        }
    })
    .await;
    let drips = outbound(&["127.0.0.0/8"]).send(&impatient(port)).await;
    assert_eq!(drips.unwrap_err(), Failure::timeout(Some(StatusCode::OK)));
}

/// A chunked answer whose second chunk is none.
const NO_CHUNK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\nnope\r\n";

#[tokio::test]
async fn a_server_that_breaks_off_or_talks_nonsense_says_which_of_them_it_did() {
    let many_headers: &str = Box::leak(format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(200)).into());
    let long_header: &str =
        Box::leak(format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(1 << 20)).into());
    for (said, cause, status) in [
        ("", Cause::Reset, None),
        ("HTTP/1.1 200 OK\r\nconte", Cause::Reset, None),
        ("HTTP/1.1 503 No\r\ncontent-length: 5\r\n\r\nhi", Cause::Truncated, Some(503)),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhi", Cause::Truncated, Some(200)),
        (NO_CHUNK, Cause::NotHttp, Some(200)),
        ("SSH-2.0-OpenSSH_9\r\n\r\n", Cause::NotHttp, None),
        ("220 mail.example ESMTP\r\n", Cause::NotHttp, None),
        ("HTTP/1.1 two hundred\r\n\r\n", Cause::NotHttp, None),
        ("\0\0\u{12}\u{4}\0\0\0\0\0\0\u{3}\0\0\0d", Cause::Http2Only, None),
        ("\0\0\u{8}\u{7}\0\0\0\0\0\0\0\0\0\0\0\0\u{1}", Cause::Http2Only, None),
        (many_headers, Cause::HeadersTooLarge, None),
        (long_header, Cause::HeadersTooLarge, None),
    ] {
        let failure = ask(&["127.0.0.0/8"], said).await.unwrap_err();
        let found = (failure.cause, failure.status.map(|status| status.as_u16()));
        assert_eq!(found, (cause, status), "{}", &said[..said.len().min(50)]);
        assert!(failure.to_string().starts_with(&format!("{cause}: ")), "{failure}");
    }
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for scheme in ["http", "https"] {
        let url = format!("{scheme}://127.0.0.1:{port}/");
        let failure = outbound(&["127.0.0.0/8"]).send(&get(&url)).await.unwrap_err();
        assert_eq!(failure.cause, Cause::Refused);
    }
}

#[tokio::test]
async fn a_server_that_accepts_nothing_and_a_name_server_that_says_nothing_are_told_apart() {
    let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let names = names_of(silent.local_addr().unwrap().port());
    let allow = || vec!["127.0.0.0/8".parse().unwrap()];
    let (short, long) = (Duration::from_millis(200), Duration::from_secs(10));
    let outbound = Outbound::with(allow(), &names, long, short).unwrap();
    assert_eq!(outbound.send(&get("http://any.test/")).await.unwrap_err().cause, Cause::Dns);
    // It accepts the connection, and says nothing of TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let outbound = Outbound::with(allow(), &names, short, long).unwrap();
    assert_eq!(outbound.send(&get(&url)).await.unwrap_err().cause, Cause::ConnectTimeout);
}

/// Serves names: `up` is 127.0.0.1, of any other nothing is ever said. Gives the port.
async fn name_server() -> u16 {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().unwrap().port();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let mut query = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut query).await.unwrap();
            let query = &query[..length];
            // RFC 1035, 4.1: twelve bytes of header, then the name in labels, its type and its class.
            let Some(name) = query.get(12..).filter(|name| name.to_ascii_lowercase().starts_with(b"\x02up"))
            else {
                continue;
            };
            let end = 12 + name.iter().position(|byte| *byte == 0).unwrap() + 5;
            let is_v4 = query[end - 3] == 1;
            let mut answer = query[..end].to_vec();
            // An answer, recursion available; one question, one answer if it was asked for an IPv4 address.
            answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(is_v4), 0, 0, 0, 0]);
            if is_v4 {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).await.unwrap();
        }
    });
    tasks.detach_all();
    port
}

/// Names that the server at this port knows.
fn names_of(port: u16) -> Names {
    use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
    let mut connection = ConnectionConfig::udp();
    connection.port = port;
    let server = NameServerConfig::new("127.0.0.1".parse().unwrap(), true, vec![connection]);
    Names::with(ResolverConfig::from_name_servers(vec![server]), ResolverOpts::default()).unwrap()
}

#[tokio::test]
async fn names_whose_servers_are_silent_stop_no_other() {
    let names = names_of(name_server().await);
    let outbound = Outbound::with(vec!["127.0.0.0/8".parse().unwrap()], &names, CONNECT, LOOK_UP).unwrap();
    let mut silent = tokio::task::JoinSet::new();
    // More than there are threads for what blocks.
    for n in 0..600 {
        let (outbound, request) = (outbound.clone(), get(&format!("http://silent{n}.test/")));
        silent.spawn(async move { outbound.send(&request).await });
    }
    tokio::task::yield_now().await;
    let port = server_of("up").await;
    assert_eq!(outbound.send(&get(&format!("http://up.test:{port}/"))).await.unwrap().body, "up");
    assert!(silent.try_join_next().is_none(), "none of them has got an answer meanwhile");
}

/// Serves one connection with this body; returns the port.
async fn server_of(body: &'static str) -> u16 {
    server(move |mut stream, _| async move {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}
