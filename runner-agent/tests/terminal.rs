//! The program's `terminal` and `dial`, over pipes as an exec gives them.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use runner_core::wire::{TerminalCodec, TerminalFrame, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

const PATIENCE: Duration = Duration::from_secs(20);

struct Terminal {
    child: Child,
    input: FramedWrite<ChildStdin, TerminalCodec>,
    output: FramedRead<ChildStdout, TerminalCodec>,
    shown: String,
}

/// Started by somebody who ignores what keys send, as shells do for what runs in their background.
fn agent(arguments: &[&str]) -> Child {
    Command::new("/bin/sh")
        .args([
            "-c",
            "trap '' INT QUIT HUP; exec \"$0\" \"$@\"",
            env!("CARGO_BIN_EXE_podwright-agent"),
        ])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

impl Terminal {
    fn open() -> Self {
        let mut child = agent(&["terminal"]);
        let input = FramedWrite::new(child.stdin.take().unwrap(), TerminalCodec);
        let output = FramedRead::new(child.stdout.take().unwrap(), TerminalCodec);
        Self { child, input, output, shown: String::new() }
    }

    async fn say(&mut self, frame: TerminalFrame) {
        self.input.send(frame).await.unwrap();
    }

    async fn keys(&mut self, text: &str) {
        self.say(TerminalFrame::Keys(Bytes::copy_from_slice(text.as_bytes()))).await;
    }

    async fn next(&mut self) -> Option<TerminalFrame> {
        let frame = timeout(PATIENCE, self.output.next()).await.expect("a word in time")?;
        Some(frame.unwrap())
    }

    /// Waits until this is on the screen.
    async fn shows(&mut self, text: &str) {
        while !self.shown.contains(text) {
            match self.next().await {
                Some(TerminalFrame::Screen(bytes)) => {
                    self.shown.push_str(&String::from_utf8_lossy(&bytes));
                }
                Some(TerminalFrame::Beat) => {}
                other => panic!("{other:?} before {text:?}; shown so far: {}", self.shown),
            }
        }
    }
}

#[tokio::test]
async fn a_shell_has_a_terminal_of_the_size_that_it_is_told() {
    let mut terminal = Terminal::open();
    terminal.keys("stty size; tty\r").await;
    terminal.shows("24 80").await;
    terminal.shows("/dev/pts/").await;
    terminal.say(TerminalFrame::Size(TerminalSize { columns: 123, rows: 45 })).await;
    terminal.keys("stty size\r").await;
    terminal.shows("45 123").await;
    terminal.keys("exit 7\r").await;
    let mut last = None;
    while let Some(frame) = terminal.next().await {
        last = Some(frame);
    }
    assert_eq!(last, Some(TerminalFrame::Ended(7)));
}

#[tokio::test]
async fn control_characters_are_keys_of_a_terminal() {
    let mut terminal = Terminal::open();
    terminal.keys("sh -c 'echo one; exec sleep 1000'\r").await;
    terminal.shows("one\r\n").await;
    terminal.keys("\x03").await;
    terminal.keys("echo after$((2))\r").await;
    terminal.shows("after2").await;
}

#[tokio::test]
async fn manager_60_the_shell_and_what_it_started_end_when_the_client_leaves() {
    let mut terminal = Terminal::open();
    terminal.keys("sleep 1000 & echo pid=$!.; wait\r").await;
    terminal.shows(".\r\n").await;
    let at = terminal.shown.rfind("pid=").unwrap() + 4;
    let pid: String = terminal.shown[at..].chars().take_while(char::is_ascii_digit).collect();
    assert!(!pid.is_empty(), "{}", terminal.shown);
    drop(terminal.input);
    let status = timeout(PATIENCE, terminal.child.wait()).await.unwrap().unwrap();
    assert!(status.success());
    let gone = async {
        let stat = format!("/proc/{pid}/stat");
        // A zombie that somebody else has to reap is as good as gone.
        while std::fs::read_to_string(&stat).is_ok_and(|text| !text.contains(") Z")) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("what was started in the terminal should be gone");
}

#[tokio::test]
async fn a_port_of_the_pod_is_reached_through_the_standard_streams() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let mut child = agent(&["dial", &port]);
    let (mut stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    child.stdin.take().unwrap().write_all(b"hello").await.unwrap();
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"hello");
    stream.write_all(b"world").await.unwrap();
    drop(stream);
    let mut answer = String::new();
    child.stdout.take().unwrap().read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "world");
}
