//! The demo web server: answers with its pod's name and its version. Standard library only, so that it links into one
//! static file, which is the whole content of its image.
//!
//! ```text
//! orch-demo serve [PORT]                HTTP on PORT (80), the same line by UDP on the same port
//! orch-demo get URL                     one request
//! orch-demo hammer URL SECONDS          requests without a pause; tells how many failed
//! ```

use std::{
    collections::BTreeMap,
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs, UdpSocket},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// How long requests are still served after SIGTERM, while the Service's rules stop sending new ones.
const DRAIN: Duration = Duration::from_secs(3);
const TIMEOUT: Duration = Duration::from_secs(10);

static TERMINATED: AtomicBool = AtomicBool::new(false);

extern "C" fn on_terminate(_signal: i32) {
    TERMINATED.store(true, Ordering::SeqCst);
}

unsafe extern "C" {
    fn signal(number: i32, handler: extern "C" fn(i32)) -> usize;
}

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        [] | ["serve"] => serve(80),
        ["serve", port] => port.parse().map_err(|_| invalid("PORT", port)).and_then(serve),
        ["get", url] => get(url).and_then(|body| io::stdout().write_all(body.as_bytes())),
        ["hammer", url, seconds] => {
            seconds.parse().map_err(|_| invalid("SECONDS", seconds)).and_then(|s| hammer(url, Duration::from_secs(s)))
        }
        _ => Err(invalid("command", &words.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("orch-demo: {e}");
            ExitCode::FAILURE
        }
    }
}

fn invalid(what: &str, value: &str) -> io::Error {
    io::Error::other(format!("invalid {what} {value:?}; usage: serve [PORT] | get URL | hammer URL SECONDS"))
}

fn greeting() -> String {
    let pod = env::var("POD_NAME").or_else(|_| env::var("HOSTNAME")).unwrap_or_else(|_| "unknown".into());
    let version = env::var("DEMO_VERSION").unwrap_or_else(|_| "unknown".into());
    format!("pod={pod} version={version}\n")
}

fn serve(port: u16) -> io::Result<()> {
    // SAFETY: `signal` is libc's; the handler only stores to an atomic, which is async-signal-safe.
    unsafe { signal(15, on_terminate) };
    let listener = TcpListener::bind(("0.0.0.0", port))?;
    let udp = UdpSocket::bind(("0.0.0.0", port))?;
    let text = Arc::new(greeting());
    println!("serving on port {port}: {}", text.trim_end());
    let answer = text.clone();
    thread::spawn(move || {
        let mut packet = [0; 2048];
        while let Ok((_, from)) = udp.recv_from(&mut packet) {
            let _ = udp.send_to(answer.as_bytes(), from);
        }
    });
    let busy = Arc::new(AtomicUsize::new(0));
    let accepting = busy.clone();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (text, busy) = (text.clone(), accepting.clone());
            busy.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || {
                // A client that breaks off is its own loss.
                let _ = respond(client, &text);
                busy.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    while !TERMINATED.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(20));
    }
    println!("terminating: serving {} s more", DRAIN.as_secs());
    thread::sleep(DRAIN);
    let until = Instant::now() + TIMEOUT;
    while busy.load(Ordering::SeqCst) > 0 && Instant::now() < until {
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

fn respond(client: TcpStream, text: &str) -> io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client);
    let mut request = String::new();
    reader.by_ref().take(8192).read_line(&mut request)?;
    let mut line = String::new();
    while reader.by_ref().take(8192).read_line(&mut line)? > 2 {
        line.clear();
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match path {
        "/healthz" if TERMINATED.load(Ordering::SeqCst) => ("503 Service Unavailable", "terminating\n"),
        "/healthz" => ("200 OK", "ok\n"),
        _ => ("200 OK", text),
    };
    let length = body.len();
    let mut client = reader.into_inner();
    write!(client, "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

fn get(url: &str) -> io::Result<String> {
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("URL", url))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let target = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let address = target.to_socket_addrs()?.next().ok_or_else(|| io::Error::other(format!("{host}: no address")))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{url}: {}", answer.lines().next().unwrap_or("no answer")))),
    }
}

fn hammer(url: &str, how_long: Duration) -> io::Result<()> {
    let until = Instant::now() + how_long;
    let (mut good, mut bad) = (BTreeMap::<String, u64>::new(), 0_u64);
    while Instant::now() < until {
        match get(url) {
            Ok(body) => *good.entry(body.rsplit('=').next().unwrap_or("").trim().to_owned()).or_default() += 1,
            Err(e) => {
                bad += 1;
                // The first few say it all.
                if bad <= 5 {
                    eprintln!("failed: {e}");
                }
            }
        }
    }
    println!("{} requests, {bad} failed, answered by {good:?}", good.values().sum::<u64>() + bad);
    if bad == 0 { Ok(()) } else { Err(io::Error::other("some requests failed")) }
}
