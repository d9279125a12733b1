exec(open('drafts/services/edits.py').read().split("g='src")[0])
import shutil
sub('examples/fbt.rs',('''//! fbt write FILE                    prints `ready` and''','''//! fbt serve PORT [STATUS]           answers HTTP requests on 127.0.0.1 with this status (200) and
//!                                   their first line
//! fbt get HOST:PORT                 sends it a request and prints the last line of the answer
//! fbt write FILE                    prints `ready` and'''),
('''        "write" => write(Path::new(first(rest)?))?,
''','''        "serve" => serve(rest)?,
        "get" => get(first(rest)?.to_str().ok_or("not an address")?)?,
        "write" => write(Path::new(first(rest)?))?,
'''),
('''fn launch(words: &[OsString])''','''/// Serves HTTP requests, one after another.
fn serve(words: &[OsString]) -> Result {
    let port: u16 = number(words)?;
    let status: u16 = number(&words[1..]).unwrap_or(200);
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut line = String::new();
        // A check that only connects sends nothing.
        if BufReader::new(&stream).read_line(&mut line)? > 0 {
            let answer = format!("HTTP/1.1 {status} Status\\r\\n\\r\\n{line}");
            stream.write_all(answer.as_bytes())?;
        }
    }
    Ok(())
}

fn get(address: &str) -> Result {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"GET / HTTP/1.0\\r\\n\\r\\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    write_stdout(format!("{}\\n", answer.lines().last().ok_or("no answer")?).as_bytes())
}

fn launch(words: &[OsString])'''),
('use std::io::{self, Read as _, Write as _};\n','use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};\nuse std::net::{TcpListener, TcpStream};\n'))
s=open('drafts/services/service_test.rs').read()
s=s.replace('"\\nGET / at "','"\\nGET / HTTP/1.0\\n"').replace('''    run.end().code(-9);
    place.wait_until_none_is_alive();
''','''    run.end().code(-9);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !place.alive().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", place.alive());
        std::thread::yield_now();
    }
''').replace('''use rustix::process::Signal;
''','''use std::time::{Duration, Instant};

use rustix::process::Signal;
''')
open('tests/cli/service.rs','w').write(s)
s=open('tests/cli/main.rs').read()
s=s.replace("mod show;\n","mod service;\nmod show;\n")
open('tests/cli/main.rs','w').write(s)
