//! What to run where, and how patient to be.

use std::fmt;
use std::time::Duration;

/// The command of an exec, and the container it runs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecTarget {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name, e.g. `helper`.
    pub container: String,
    /// Program and arguments. They travel in the URL: keep them short and free of secrets.
    pub command: Vec<String>,
}

impl ExecTarget {
    /// The request's path and query.
    pub(super) fn path(&self) -> String {
        let mut path = String::from("/api/v1/namespaces/");
        escape(&self.namespace, &mut path);
        path.push_str("/pods/");
        escape(&self.pod, &mut path);
        path.push_str("/exec?stdin=true&stdout=true&stderr=true&container=");
        escape(&self.container, &mut path);
        for word in &self.command {
            path.push_str("&command=");
            escape(word, &mut path);
        }
        path
    }
}

impl fmt::Display for ExecTarget {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

/// Percent-encodes everything but RFC 3986's unreserved characters.
fn escape(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

/// How the bytes travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A websocket, opened by GET. Needs `get` on pods/exec, from Kubernetes 1.35 on `create` too.
    WebSocket,
    /// SPDY/3.1, opened by POST. Needs only `create` on pods/exec.
    Spdy,
}

impl fmt::Display for Transport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::WebSocket => "websocket",
            Self::Spdy => "SPDY",
        })
    }
}

/// The deadlines of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Longest time from the request to a usable stream. Default 30 s: a kubelet that is asked for
    /// the first time in a while needs some seconds.
    pub open: Duration,
    /// A ping is sent when the other side was silent this long. Default 15 s, below the 60 s after
    /// which common load balancers drop an idle connection.
    pub ping: Duration,
    /// A session ends when nothing at all (not even a pong) came for this long. Default 60 s, as
    /// client-go. The clock stands still while our own bytes cannot be sent: the API server reads
    /// pings and stdin in one loop, so a process that does not read its stdin also stops pongs.
    pub pong: Duration,
    /// A session ends when the command wrote nothing for this long. Default 60 s, four beats of an
    /// agent. The clock stands still while the consumer does not take what is there.
    pub agent: Duration,
    /// Longest time to go on reading after the exit status, and to take leave in `close`.
    /// Default 5 s: what is still on its way was written before the command ended.
    pub linger: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            open: Duration::from_secs(30),
            ping: Duration::from_secs(15),
            pong: Duration::from_secs(60),
            agent: Duration::from_secs(60),
            linger: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ExecTarget;

    #[test]
    fn names_and_arguments_cannot_leave_their_place_in_the_url() {
        let target = ExecTarget {
            namespace: "ci".into(),
            pod: "a/../b?c".into(),
            container: "helper".into(),
            command: vec!["sh".into(), "-c".into(), "a&b=ü %\n".into()],
        };
        assert_eq!(
            target.path(),
            "/api/v1/namespaces/ci/pods/a%2F..%2Fb%3Fc/exec?stdin=true&stdout=true&stderr=true\
             &container=helper&command=sh&command=-c&command=a%26b%3D%C3%BC%20%25%0A"
        );
    }
}
