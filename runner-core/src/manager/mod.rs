mod backoff; mod observer; mod slots; mod trace_relay;
pub use observer::*;
