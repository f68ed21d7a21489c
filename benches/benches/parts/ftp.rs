//! The FTP ALG: one message.

use alg::{Answer, Application, Bound, Context, Profile, Side, StreamAlg, Tables, Verdict};
use benches::{OnePort, ftp_flow};
use criterion::{Criterion, Throughput, criterion_group};
use std::hint::black_box;

fn ftp(c: &mut Criterion) {
    let mut group = c.benchmark_group("ftp");
    let flow = ftp_flow();
    let (profile, mut tables) = (Profile::default(), Tables::new());
    let cases: [(&str, Side, &[u8]); 4] = [
        ("command-that-passes", Side::Initiator, b"RETR a-file-with-a-name.bin\r\n"),
        ("port-rewritten", Side::Initiator, b"PORT 10,1,0,2,195,80\r\n"),
        ("eprt-rewritten", Side::Initiator, b"EPRT |1|10.1.0.2|50000|\r\n"),
        ("banner-of-a-segment", Side::Responder, &[b'a'; 1460]),
    ];
    for (name, from, bytes) in cases {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| {
            let start = Bound::for_application(Application::Ftp).unwrap();
            let mut answer = Answer::default();
            b.iter(|| {
                let mut ftp = start;
                answer.clear();
                let mut cx =
                    Context { flow: &flow, profile: &profile, gateway: &mut OnePort, tables: &mut tables };
                let verdict = ftp.inspect(&mut cx, from, 0, black_box(bytes), &mut answer);
                assert!(matches!(verdict, Verdict::Pass));
                black_box(answer.edits.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, ftp);
