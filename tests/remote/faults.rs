//! T9: faults between fbuild and a server. A lookup ends in time with a miss or with the
//! right result, and after three failures the server is left alone.

use std::time::{Duration, Instant};

use fbuild::remote::Remote;
use fbuild::remote::backend::Timeouts;
use fbuild::store::shared::{Deadline, Lookup, SharedCache as _};
use fbuild::store::{Memory, Store as _};

use crate::contract::{config, remote, sample};
use crate::proxy::{Fault, Proxy};
use crate::servers::{Kind, Server};

/// Deadlines that let a test end soon.
const SHORT: Timeouts = Timeouts {
    connect: Duration::from_millis(300),
    idle: Duration::from_millis(300),
    total: Duration::from_secs(2),
};
/// No lookup may take longer than its total deadline and this.
const SLACK: Duration = Duration::from_secs(3);

fn faults() -> Vec<Fault> {
    let answer = |text: &str| Fault::Answer(text.as_bytes().to_vec());
    vec![
        Fault::Silent,
        Fault::Closed,
        Fault::CutAfter(1),
        Fault::CutAfter(100),
        Fault::CutAfter(10_000),
        Fault::CutAfter(1_000_000),
        Fault::Corrupt,
        Fault::Trickle(Duration::from_millis(5)),
        answer("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n"),
        answer("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"),
        answer("HTTP/1.1 429 Too Many Requests\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n"),
        answer("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
        answer("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"),
        answer("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nwrong"),
        answer("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nshort"),
        answer("HTTP/1.1 200 OK\r\ncontent-length: 99999999999999\r\n\r\nx"),
        answer("HTTP/1.1 302 Found\r\nlocation: /cache/ac/x\r\ncontent-length: 0\r\n\r\n"),
        answer("-ERR unknown command\r\n"),
        answer("-NOAUTH Authentication required.\r\n"),
        answer("-LOADING Redis is loading the dataset in memory\r\n"),
        answer("$1000000000\r\nx"),
        answer("\0\u{1}\u{2}garbage"),
        answer(""),
        Fault::None,
    ]
}

fn through(server: &Server, proxy: &Proxy) -> Remote {
    let mut config = config(server.url(proxy.port()), 1, &[1]);
    config.timeouts = SHORT;
    Remote::new(&config).unwrap()
}

fn plays_every_fault(kind: Kind) {
    let Some(server) = Server::start(kind) else {
        return;
    };
    let (store, key, result) = sample();
    remote(&server, 1, &[1])
        .push(key, &result, &store, &Deadline::default())
        .unwrap();
    for fault in faults() {
        let proxy = Proxy::start(server.port(), fault.clone());
        let remote = through(&server, &proxy);
        let (start, elsewhere) = (Instant::now(), Memory::new());
        let found = remote.fetch(key, &elsewhere);
        assert!(
            start.elapsed() < SHORT.total * 8 + SLACK,
            "{kind:?} {fault:?}: {:?}",
            start.elapsed()
        );
        match found {
            Lookup::Found(found) => {
                assert_eq!(*found, result, "{kind:?} {fault:?}");
                assert_eq!(
                    elsewhere.missing(&result.blobs()).unwrap(),
                    [],
                    "{kind:?} {fault:?}"
                );
            }
            _ => assert!(!matches!(fault, Fault::None), "{kind:?}: {found:?}"),
        }
        let start = Instant::now();
        let pushed = remote.push(key, &result, &store, &Deadline::default());
        assert!(
            start.elapsed() < SHORT.total * 8 + SLACK,
            "{kind:?} {fault:?}: push {:?}",
            start.elapsed()
        );
        assert!(
            pushed.is_ok() || !matches!(fault, Fault::None),
            "{kind:?}: {pushed:?}"
        );
    }
}

#[test]
fn http_faults_end_in_time_with_a_miss() {
    plays_every_fault(Kind::Nginx);
}

#[test]
fn redis_faults_end_in_time_with_a_miss() {
    plays_every_fault(Kind::Redis);
}

#[test]
fn grpc_faults_end_in_time_with_a_miss() {
    plays_every_fault(Kind::Casd);
}

#[test]
fn a_dead_server_is_left_alone_after_three_failures() {
    let Some(server) = Server::start(Kind::Nginx) else {
        return;
    };
    let (_, key, _) = sample();
    let proxy = Proxy::start(server.port(), Fault::Closed);
    let remote = through(&server, &proxy);
    for _ in 0..10 {
        assert!(!matches!(
            remote.fetch(key, &Memory::new()),
            Lookup::Found(_)
        ));
    }
    assert!(
        proxy.connections() <= 6,
        "{} connections",
        proxy.connections()
    );
    assert!(remote.trouble().is_some());
    assert!(matches!(remote.fetch(key, &Memory::new()), Lookup::Off));
}

#[test]
fn refused_credentials_are_tried_once() {
    let Some(server) = Server::start(Kind::Nginx) else {
        return;
    };
    let (_, key, _) = sample();
    let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    let proxy = Proxy::start(server.port(), Fault::Answer(answer.to_vec()));
    let remote = through(&server, &proxy);
    for _ in 0..5 {
        assert!(!matches!(
            remote.fetch(key, &Memory::new()),
            Lookup::Found(_)
        ));
    }
    assert_eq!(proxy.connections(), 1);
}
