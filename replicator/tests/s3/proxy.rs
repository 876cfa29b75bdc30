//! A proxy in front of the service that does to chosen requests what networks and services do to them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection ends before the service hears of it.
    Cut,
    /// The service gets half of the body.
    CutRequest,
    /// The service never hears of it, and this status comes back.
    Reply(u16),
    /// Nothing comes back, and the service never hears of it.
    Hang,
    /// The service does it, and the connection ends.
    LoseReply,
    /// The service does it, and this status comes back.
    ReplyAfter(u16),
    /// The service does it, and all but the last byte of its answer comes back.
    CutReply,
}

#[derive(Debug, Default)]
struct Plan {
    /// For the next requests with these methods, each once.
    once: Vec<(&'static str, Fault)>,
    /// For every request.
    always: Option<Fault>,
    is_over: bool,
}

/// A proxy on a port of its own. Each connection carries one request.
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Mutex<Plan>>,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    pub(crate) fn start(endpoint: &str) -> Self {
        let service: SocketAddr = endpoint.strip_prefix("http://").unwrap().parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(Plan::default()));
        let shared = Arc::clone(&plan);
        let acceptor = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let plan = Arc::clone(&shared);
                if plan.lock().unwrap().is_over {
                    return;
                }
                // A connection that breaks off is what this is for.
                thread::spawn(move || drop(serve(client, service, &plan)));
            }
        });
        Self { address, plan, acceptor: Some(acceptor) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Does `fault` to the next request with this method.
    pub(crate) fn once(&self, method: &'static str, fault: Fault) {
        self.plan.lock().unwrap().once.push((method, fault));
    }

    /// Does `fault` to every request, or to none any more.
    pub(crate) fn always(&self, fault: Option<Fault>) {
        self.plan.lock().unwrap().always = fault;
    }

    /// Whether every fault that was planned once has happened.
    pub(crate) fn is_done(&self) -> bool {
        self.plan.lock().unwrap().once.is_empty()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.plan.lock().unwrap().is_over = true;
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
    }
}

struct Request {
    method: String,
    head: Vec<u8>,
    body: Vec<u8>,
}

fn serve(mut client: TcpStream, service: SocketAddr, plan: &Mutex<Plan>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let Some(request) = read_request(&mut client)? else { return Ok(()) };
    let fault = {
        let mut plan = plan.lock().unwrap();
        let planned = plan.once.iter().position(|(method, _)| *method == request.method);
        planned.map(|index| plan.once.remove(index).1).or(plan.always)
    };
    match fault {
        Some(Fault::Cut) => return Ok(()),
        Some(Fault::Reply(status)) => return client.write_all(&canned(status, &request.method)),
        // Until the client goes away.
        Some(Fault::Hang) => return client.read(&mut [0]).map(|_| ()),
        Some(Fault::CutRequest) => {
            let half = request.body.len() / 2;
            return send(service, &request.head, &request.body[..half])?.shutdown(Shutdown::Both);
        }
        _ => {}
    }
    let mut reply = Vec::new();
    send(service, &request.head, &request.body)?.read_to_end(&mut reply)?;
    match fault {
        Some(Fault::LoseReply) => Ok(()),
        Some(Fault::ReplyAfter(status)) => client.write_all(&canned(status, &request.method)),
        Some(Fault::CutReply) => client.write_all(&reply[..reply.len().saturating_sub(1)]),
        _ => client.write_all(&reply),
    }
}

/// Sends a request on a connection that the service closes after its reply.
fn send(service: SocketAddr, head: &[u8], body: &[u8]) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect(service)?;
    let line = head.windows(2).position(|pair| pair == b"\r\n").unwrap_or(0) + 2;
    let message = [&head[..line], b"Connection: close\r\n", &head[line..], body].concat();
    stream.write_all(&message)?;
    Ok(stream)
}

/// A whole request; nothing when the client closed the connection instead.
fn read_request(client: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if client.read(&mut byte)? == 0 {
            return Ok(None);
        }
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
    let length = length.map_or(0, |length| length.trim().parse().unwrap());
    let mut body = vec![0; length];
    client.read_exact(&mut body)?;
    let method = text.split(' ').next().unwrap_or_default().to_ascii_uppercase();
    Ok(Some(Request { method, head, body }))
}

fn canned(status: u16, method: &str) -> Vec<u8> {
    let code = match status {
        409 => "ConditionalRequestConflict",
        412 => "PreconditionFailed",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!("<Error><Code>{code}</Code><Message>by the proxy</Message></Error>");
    let length = body.len();
    let body = if method == "HEAD" { "" } else { &body };
    format!("HTTP/1.1 {status} {code}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}
