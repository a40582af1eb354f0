//! Local fake hub.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// Received request: the path, and the headers with names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub path: String,
    pub headers: BTreeMap<String, String>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// Offset of the first requested byte; 0 for the whole file.
    pub fn first(&self) -> usize {
        let range = self
            .header("range")
            .map(|range| range.trim_start_matches("bytes=").trim_end_matches('-'));
        range.map_or(0, |first| first.parse().unwrap())
    }
}

/// Response, after which the connection is closed.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// Number of body bytes to send; `None` for all.
    pub cut: Option<usize>,
    /// Sends the body repeatedly, in chunks, without a length.
    pub endless: bool,
}

impl Response {
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// Returns a file from the requested offset on, with its tag.
    pub fn file(request: &Request, content: &[u8], tag: &str) -> Self {
        let first = request.first().min(content.len());
        let mut headers = vec![("ETag", tag.to_owned())];
        if request.header("range").is_some() {
            headers.push((
                "Content-Range",
                format!("bytes {first}-{}/{}", content.len() - 1, content.len()),
            ));
        }
        Self {
            status: if request.header("range").is_some() { 206 } else { 200 },
            headers,
            body: content[first..].to_vec(),
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub fn cut(self, bytes: usize) -> Self {
        Self { cut: Some(bytes), ..self }
    }
}

/// Server that answers until the test ends.
pub struct Server {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts a server; `answer` gets each request and its number, from 0.
    pub fn start(answer: impl Fn(&Request, usize) -> Response + Send + Sync + 'static) -> Self {
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
}

fn serve(
    mut stream: TcpStream,
    seen: &Mutex<Vec<Request>>,
    answer: &dyn Fn(&Request, usize) -> Response,
) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(path) = lines.next().and_then(|line| line.split(' ').nth(1).map(str::to_owned)) else {
        return;
    };
    let headers = lines.take_while(|line| !line.is_empty());
    let headers = headers
        .filter_map(|line| {
            line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        })
        .collect();
    let request = Request { path, headers };
    let number = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let response = answer(&request, number);
    let length = match response.endless {
        true => "Transfer-Encoding: chunked".to_owned(),
        false => format!("Content-Length: {}", response.body.len()),
    };
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n{length}\r\n", response.status);
    for (name, value) in &response.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // The program may have disconnected.
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    if response.endless {
        let chunk =
            [format!("{:x}\r\n", response.body.len()).as_bytes(), &response.body, b"\r\n"].concat();
        while stream.write_all(&chunk).is_ok() {}
        return;
    }
    let _ = stream.write_all(&response.body[..response.cut.unwrap_or(response.body.len())]);
}
