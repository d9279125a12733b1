//! Checks whether a service answers.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs as _};
use std::time::Duration;

/// The longest line of an answer that is read, in bytes.
const MOST_LINE: u64 = 4096;

/// Sends a GET request to a URL such as `http://127.0.0.1:8080/health`. A status from 200 to
/// 399 counts as ready; the error describes another answer.
pub fn check_http(url: &str, timeout: Duration) -> Result<(), String> {
    let (host, path) = split(url).ok_or_else(|| format!("`{url}` is not an `http://` URL"))?;
    let mut stream = connect(&with_port(host), timeout)?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: */*\r\nUser-Agent: fbuild\r\nConnection: close\r\n\r\n"
    );
    let sent = stream.write_all(request.as_bytes());
    sent.map_err(|error| format!("cannot send a request: {error}"))?;
    let mut line = String::new();
    let reader = BufReader::new(stream);
    let read = std::io::Read::take(reader, MOST_LINE).read_line(&mut line);
    read.map_err(|error| format!("no answer: {error}"))?;
    let status = line
        .strip_prefix("HTTP/")
        .and_then(|line| line.split_whitespace().nth(1)?.parse::<u16>().ok());
    match status {
        Some(200..400) => Ok(()),
        Some(status) => Err(format!("it answered with status {status}")),
        None => Err("its answer is not HTTP".to_owned()),
    }
}

/// Connects to an address such as `127.0.0.1:5432`. The error describes why it failed.
pub fn check_tcp(address: &str, timeout: Duration) -> Result<(), String> {
    connect(address, timeout).map(|_| ())
}

/// Returns the host, with its port if it has one, and the path of a URL.
fn split(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    if host.is_empty() || host.contains('@') || url.contains(char::is_whitespace) {
        return None;
    }
    Some((host, if path.is_empty() { "/" } else { path }))
}

fn with_port(host: &str) -> String {
    let is_bare = host.rsplit(']').next().is_some_and(|end| !end.contains(':'));
    if is_bare {
        format!("{host}:80")
    } else {
        host.to_owned()
    }
}

fn connect(address: &str, timeout: Duration) -> Result<TcpStream, String> {
    let addresses = address.to_socket_addrs();
    let addresses: Vec<SocketAddr> = addresses
        .map_err(|error| format!("`{address}` is no address: {error}"))?
        .collect();
    let mut problem = format!("`{address}` is no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            Ok(stream) => {
                let limited = stream
                    .set_read_timeout(Some(timeout))
                    .and_then(|()| stream.set_write_timeout(Some(timeout)));
                return limited.map(|()| stream).map_err(|error| error.to_string());
            }
            Err(error) => problem = format!("cannot connect to {address}: {error}"),
        }
    }
    Err(problem)
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Returns the result of asking a server that answers with this text, and the request.
    fn answered(text: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let checked = check_http(&format!("http://{address}/health?x=1"), LIMIT);
        (checked, server.join().unwrap())
    }

    #[test]
    fn http_status_decides() {
        let (checked, request) = answered("HTTP/1.1 204 No Content\r\n\r\n");
        assert_eq!(checked, Ok(()));
        assert!(request.starts_with("GET /health?x=1 HTTP/1.1\r\nHost: 127.0.0.1:"));
        let (checked, _) = answered("HTTP/1.0 503 Busy\r\n\r\n");
        assert_eq!(checked, Err("it answered with status 503".to_owned()));
        let (checked, _) = answered("SSH-2.0-x\r\n");
        assert_eq!(checked, Err("its answer is not HTTP".to_owned()));
    }

    #[test]
    fn url_is_split_into_host_and_path() {
        assert_eq!(split("http://h:1/a/b"), Some(("h:1", "/a/b")));
        assert_eq!(split("http://h"), Some(("h", "/")));
        assert_eq!(split("https://h"), None);
        assert_eq!(split("http:///x"), None);
        assert_eq!(split("http://h/a b"), None);
        assert_eq!(with_port("[::1]"), "[::1]:80");
        assert_eq!(with_port("[::1]:8080"), "[::1]:8080");
    }

    #[test]
    fn refused_connection_is_described() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        assert_eq!(check_tcp(&address.to_string(), LIMIT), Ok(()));
        drop(free);
        let refused = check_tcp(&address.to_string(), LIMIT).unwrap_err();
        assert!(refused.starts_with("cannot connect to 127.0.0.1:"), "{refused}");
    }
}
