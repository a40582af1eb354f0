//! Servers of make-believe on this machine.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
}

impl Request {
    /// `GET /path`.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

/// Answers until the test ends.
pub struct Server {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` writes what it likes, and gets each request with its number from 0. The connection
    /// is closed after it.
    pub fn start(
        answer: impl Fn(&Request, usize, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { address, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Method and path of each request.
    pub fn lines(&self) -> Vec<String> {
        self.requests().iter().map(Request::line).collect()
    }
}

type Answer = dyn Fn(&Request, usize, &mut TcpStream) -> std::io::Result<()>;

fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Request>>, answer: &Answer) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_owned());
    }
    let Some(first) = head.first() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap(), words.next().unwrap());
    let header = |line: &String| {
        line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))
    };
    let headers: BTreeMap<String, String> = head[1..].iter().filter_map(header).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let request =
        Request { method, path, headers, body: String::from_utf8_lossy(&body).into_owned() };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    // The program may be gone by now.
    let _ = answer(&request, number, &mut stream);
}

/// Writes a whole answer.
pub fn reply(to: &mut TcpStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    write!(
        to,
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    )?;
    to.write_all(body)
}

/// Writes the head of a stream of events; events follow as `data: ...` until the connection closes.
pub fn stream_head(to: &mut TcpStream) -> std::io::Result<()> {
    to.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n")
}

/// Writes one event.
pub fn event(to: &mut TcpStream, data: &str) -> std::io::Result<()> {
    write!(to, "data: {data}\n\n")?;
    to.flush()
}

/// Answer that a proxy passed on.
#[derive(Clone, Debug)]
pub struct Passed {
    pub request: Request,
    pub body: Vec<u8>,
}

/// Server that passes everything on to another one, as `change` makes it, and keeps what it passed.
pub struct Proxy {
    pub server: Server,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Proxy {
    pub fn start(
        target: &str,
        change: impl Fn(&Request, Vec<u8>) -> Vec<u8> + Send + Sync + 'static,
    ) -> Proxy {
        let (target, passed) = (target.to_owned(), Arc::new(Mutex::new(Vec::new())));
        let kept = Arc::clone(&passed);
        let agent =
            ureq::Agent::from(ureq::Agent::config_builder().http_status_as_error(false).build());
        let server = Server::start(move |request, _, to| {
            let at = format!("{target}{}", request.path);
            let answer = match request.method.as_str() {
                "POST" => agent
                    .post(at)
                    .header("Content-Type", "application/json")
                    .send(&request.body[..]),
                _ => agent.get(at).call(),
            };
            let mut answer = answer.map_err(std::io::Error::other)?;
            let body = answer.body_mut().with_config().limit(64 << 20).read_to_vec();
            let body = change(request, body.map_err(std::io::Error::other)?);
            kept.lock().unwrap().push(Passed { request: request.clone(), body: body.clone() });
            reply(to, answer.status().as_u16(), "", &body)
        });
        Proxy { server, passed }
    }

    pub fn passed(&self) -> Vec<Passed> {
        self.passed.lock().unwrap().clone()
    }
}
