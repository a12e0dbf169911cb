//! A port of one's own on another loopback address, for programs that know a protocol's usual port and no other.

use std::io;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

/// Last numbers of the loopback addresses that are tried.
const HOSTS: std::ops::RangeInclusive<u8> = 31..=60;

/// Takes connections at its address and passes them on; ends with the value.
pub struct Relay {
    /// Where it listens.
    pub host: Ipv4Addr,
    port: u16,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Listens on `port` of the first loopback address where nobody does, and passes on to `to` of 127.0.0.1.
    pub fn start(port: u16, to: u16) -> io::Result<Self> {
        let bind = |last| TcpListener::bind((Ipv4Addr::new(127, 0, 0, last), port)).map(|listener| (last, listener));
        let mut tried = HOSTS.map(bind);
        let (last, listener) = tried.find_map(Result::ok).ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrInUse, format!("no loopback address has port {port} free"))
        })?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                if let Ok(stream) = stream
                    && let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, to))
                {
                    let _ = join(&stream, &server);
                }
            }
        });
        Ok(Self { host: Ipv4Addr::new(127, 0, 0, last), port, ended, thread: Some(thread) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // The one connection more that it waits for. Connections that still stand end with those at their ends.
        if TcpStream::connect((self.host, self.port)).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Copies in both directions until both ends are done.
fn join(one: &TcpStream, other: &TcpStream) -> io::Result<()> {
    for (from, to) in [(one, other), (other, one)] {
        from.set_nodelay(true)?;
        let (mut from, mut to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
    Ok(())
}
