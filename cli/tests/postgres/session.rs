//! A connection to a cluster that is kept: `psql` on two pipes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use crate::cluster::Cluster;

/// What tells where an answer ends.
const END: &str = "-- end of answer --";

/// One session. It ends when it is dropped.
pub(crate) struct Session {
    psql: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Session {
    pub(crate) fn open(cluster: &Cluster) -> Self {
        let mut command = cluster.command("psql", &["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]);
        let mut psql = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("psql runs");
        let answers = BufReader::new(psql.stdout.take().expect("a pipe"));
        Self { orders: psql.stdin.take(), psql, answers }
    }

    /// Has statements done, one after the other, and gives the rows that they answer with.
    pub(crate) fn ask(&mut self, statements: &str) -> Vec<String> {
        let orders = self.orders.as_mut().expect("it is open");
        writeln!(orders, "{statements};\nselect '{END}';").expect("psql listens");
        let mut rows = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.answers.read_line(&mut line).expect("read");
            assert!(read > 0, "psql ended in {statements:?}");
            match line.trim_end() {
                END => return rows,
                row => rows.push(row.to_owned()),
            }
        }
    }

    /// The only row that they answer with.
    pub(crate) fn ask_one(&mut self, statements: &str) -> String {
        let mut rows = self.ask(statements);
        assert_eq!(rows.len(), 1, "{statements:?} answers {rows:?}");
        rows.remove(0)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.psql.kill();
        let _ = self.psql.wait();
    }
}
