use super::*;
use tokio::time::{Instant, timeout};

/// A server that sends back what it gets and ends when the client ends.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    addr
}

async fn proxy(plan: FaultPlan) -> FaultProxy {
    let proxy = FaultProxy::start(echo().await).await.unwrap();
    proxy.set(plan);
    proxy
}

/// What comes back for these bytes, until the end or an error.
async fn exchange(proxy: &FaultProxy, bytes: &[u8]) -> (Vec<u8>, Option<io::ErrorKind>) {
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    let (mut from, mut to) = stream.split();
    let send = async {
        let _ = to.write_all(bytes).await;
        let _ = to.shutdown().await;
    };
    let mut got = Vec::new();
    let receive = from.read_to_end(&mut got);
    let ((), end) = tokio::join!(send, receive);
    (got, end.err().map(|error| error.kind()))
}

#[tokio::test]
async fn without_a_plan_everything_passes_in_both_directions() {
    let proxy = proxy(FaultPlan::none()).await;
    let sent: Vec<u8> = (0..300_000_u32).map(|n| n as u8).collect();
    assert_eq!(exchange(&proxy, &sent).await, (sent, None));
    let counts = proxy.counts();
    assert_eq!((counts.to_server, counts.to_client, counts.faults()), (300_000, 300_000, 0));
}

#[tokio::test]
async fn a_close_cuts_after_exactly_so_many_bytes_and_looks_orderly() {
    let proxy = proxy(FaultPlan::each(Fault::Close).at(Direction::ToClient, 40_001)).await;
    let (got, error) = exchange(&proxy, &[7; 40_010]).await;
    assert_eq!((got.len(), error), (40_001, None));
}

#[tokio::test]
async fn a_reset_is_seen_as_a_reset_and_happens_as_often_as_asked() {
    let proxy = proxy(FaultPlan::each(Fault::Reset).at(Direction::ToServer, 5).times(1)).await;
    let (_, error) = exchange(&proxy, b"0123456789").await;
    assert_eq!(error, Some(io::ErrorKind::ConnectionReset));
    assert_eq!(exchange(&proxy, b"0123456789").await, (b"0123456789".to_vec(), None));
    assert_eq!(proxy.counts().reset, 1);
}

#[tokio::test]
async fn a_stalled_connection_is_silent_and_stays_open() {
    let stall = Fault::Stall { lasting: None };
    let proxy = proxy(FaultPlan::each(stall).at(Direction::ToClient, 2)).await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    stream.write_all(b"abcd").await.unwrap();
    let mut got = [0; 4];
    stream.read_exact(&mut got[..2]).await.unwrap();
    timeout(Duration::from_millis(100), stream.read(&mut got[2..])).await.unwrap_err();
    // And it can still be put out of its misery.
    proxy.hurt_open(Fault::Reset);
    let error = stream.read(&mut got[2..]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn a_stall_that_ends_loses_nothing() {
    let stall = Fault::Stall { lasting: Some(Duration::from_millis(50)) };
    let proxy = proxy(FaultPlan::each(stall).at(Direction::ToServer, 10)).await;
    let began = Instant::now();
    assert_eq!(exchange(&proxy, &[1; 50_000]).await, (vec![1; 50_000], None));
    assert!(began.elapsed() >= Duration::from_millis(50));
}

#[tokio::test]
async fn a_slow_connection_keeps_to_its_rate() {
    let slow = Fault::Slow { rate: 10_000 };
    let proxy = proxy(FaultPlan::each(slow).at(Direction::ToClient, 0)).await;
    let began = Instant::now();
    assert_eq!(exchange(&proxy, &[1; 2_000]).await, (vec![1; 2_000], None));
    assert!(began.elapsed() >= Duration::from_millis(180), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_half_close_ends_one_direction_and_leaves_the_other() {
    let proxy = proxy(FaultPlan::each(Fault::HalfClose).at(Direction::ToServer, 3)).await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    stream.write_all(b"abcdef").await.unwrap();
    // The echo server sees the end after three bytes, answers those, and ends its own side.
    let mut got = Vec::new();
    stream.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"abc");
}

#[tokio::test]
async fn open_connections_can_be_reset_at_once() {
    let proxy = proxy(FaultPlan::none()).await;
    let mut stream = TcpStream::connect(proxy.addr()).await.unwrap();
    stream.write_all(b"a").await.unwrap();
    stream.read_exact(&mut [0]).await.unwrap();
    proxy.hurt_open(Fault::Reset);
    let error = stream.read(&mut [0]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn while_it_is_away_connections_fail_and_afterwards_they_work() {
    let proxy = proxy(FaultPlan::none()).await;
    proxy.go_away().await;
    TcpStream::connect(proxy.addr()).await.unwrap_err();
    proxy.come_back().unwrap();
    assert_eq!(exchange(&proxy, b"x").await, (b"x".to_vec(), None));
}
