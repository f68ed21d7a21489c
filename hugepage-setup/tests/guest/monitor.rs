//! QEMU's monitor (QMP): what happens to the machine itself, such as a cable that is pulled out.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// One conversation with the monitor at a socket.
pub struct Monitor(BufReader<UnixStream>);

impl Monitor {
    /// Connects, and is ready for commands.
    #[track_caller]
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap_or_else(|e| panic!("{}: {e}", socket.display()));
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let mut monitor = Self(BufReader::new(stream));
        let greeting = monitor.line();
        assert!(greeting["QMP"].is_object(), "{greeting}");
        monitor.execute("qmp_capabilities", &json!({}));
        monitor
    }

    /// Gives a command, which must succeed.
    #[track_caller]
    pub fn execute(&mut self, command: &str, arguments: &Value) {
        let text = json!({ "execute": command, "arguments": arguments }).to_string();
        self.0.get_mut().write_all(format!("{text}\n").as_bytes()).unwrap();
        // Events may come in between.
        let answer = loop {
            let line = self.line();
            if line["event"].is_null() {
                break line;
            }
        };
        assert!(!answer["return"].is_null(), "{text}: {answer}");
    }

    #[track_caller]
    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("QEMU's monitor: {e}: {line:?}"))
    }
}
